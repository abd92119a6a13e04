//! Mails that are files of their own: a Maildir, an .eml file, a directory with such files.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::blobs::{hex, sha256};
use crate::daemon::import::ITEM_BYTES_MAX;

use super::Layout;
use super::batches::{Behind, Item, Reader};
use super::mbox::Mail;

mod walk;

use walk::{Found, Named, PassedOver};

/// Files in their order.
pub struct Files {
    root: PathBuf,
    layout: Layout,
    files: std::vec::IntoIter<Named>,
    passed_over: PassedOver,
    count: u64,
    done: u64,
    behind: Trail,
}

impl Files {
    /// The mails of a Maildir; otherwise the one file, or all `.eml` files below a directory.
    pub fn open(layout: Layout, path: &Path) -> Result<Self, String> {
        let (root, found) = match (layout, path.is_dir()) {
            (Layout::Maildir, _) => (path, walk::maildir(path)?),
            (_, true) => (path, walk::eml(path)?),
            (_, false) => {
                let mut found = Found::default();
                let name = path.file_name().unwrap_or_default();
                found.push(name.into(), None)?;
                (path.parent().unwrap_or(path), found)
            }
        };
        let Found { files, passed_over } = found;
        if files.is_empty() && layout == Layout::Eml {
            let there = match passed_over.is_empty() {
                true => String::new(),
                false => format!("; there are {passed_over}"),
            };
            return Err(format!(
                "{} holds neither .eml files nor a Maildir (cur, new){there}",
                path.display()
            ));
        }
        Ok(Self {
            root: root.to_owned(),
            layout,
            count: files.len() as u64,
            files: files.into_iter(),
            passed_over,
            done: 0,
            behind: Trail::default(),
        })
    }

    /// Goes on behind the first `count` files, if they are those that `check` was made of; says
    /// whether it does.
    pub fn go_on(&mut self, count: u64, check: &str) -> bool {
        let count_files = usize::try_from(count).unwrap_or(usize::MAX);
        let Some(files) = self.files.as_slice().get(..count_files) else {
            return false;
        };
        let mut behind = Trail::default();
        for file in files {
            let metadata = fs::symlink_metadata(self.root.join(&file.path));
            behind.add(self.name(file), metadata.ok().as_ref());
        }
        let same = behind.shown() == check;
        if same {
            self.files.by_ref().take(count_files).for_each(drop);
            self.done = count;
            self.behind = behind;
        }
        same
    }

    /// What a file is known by in this directory.
    fn name<'a>(&self, file: &'a Named) -> &'a [u8] {
        match self.layout {
            Layout::Maildir => file.unique(),
            _ => file.path.as_os_str().as_bytes(),
        }
    }
}

impl Reader for Files {
    fn next(&mut self) -> io::Result<Option<Item>> {
        let Some(file) = self.files.next() else {
            return Ok(None);
        };
        let path = self.root.join(&file.path);
        let (content, metadata) = match &file.unreadable {
            Some(reason) => (Err(reason.to_string()), fs::symlink_metadata(&path).ok()),
            None => match File::open(&path) {
                Ok(opened) => {
                    let metadata = opened.metadata().ok();
                    let read = read(opened).unwrap_or_else(|error| Err(error.to_string()));
                    (read, metadata)
                }
                Err(error) => (Err(error.to_string()), fs::symlink_metadata(&path).ok()),
            },
        };
        self.done += 1;
        let name = self.name(&file);
        self.behind.add(name, metadata.as_ref());
        Ok(Some(Item {
            place: path.display().to_string(),
            content,
            after: Behind::Files {
                count: self.done,
                check: self.behind.shown(),
            },
            done: self.done,
        }))
    }

    fn size(&self) -> u64 {
        self.count
    }

    fn remarks(&self) -> Vec<String> {
        let some = !self.passed_over.is_empty();
        let root = self.root.display();
        let said = || format!("{root}: passed over: {}", self.passed_over);
        some.then(said).into_iter().collect()
    }
}

/// A digest of files by name, size and time, one after the other: whoever comes back finds the same
/// directory behind his place, or begins anew.
#[derive(Default)]
struct Trail([u8; 32]);

impl Trail {
    fn add(&mut self, name: &[u8], metadata: Option<&Metadata>) {
        let facts = metadata.map(|it| [it.size() as i64, it.mtime(), it.mtime_nsec()]);
        let mut text = self.0.to_vec();
        text.extend(
            facts
                .unwrap_or_default()
                .iter()
                .flat_map(|fact| fact.to_le_bytes()),
        );
        text.extend_from_slice(name);
        self.0 = sha256(&text);
    }

    fn shown(&self) -> String {
        hex(&self.0)
    }
}

/// A mail's bytes, or why they are none; an error is of the file.
fn read(file: File) -> io::Result<Result<connector_api::Bytes, String>> {
    let mut input = BufReader::new(file.take(ITEM_BYTES_MAX + 1));
    let mut mail = Mail::default();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        mail.push(&line);
        line.clear();
    }
    Ok(mail.whole())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(mut files: Files) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(item) = files.next().unwrap() {
            found.push(item.place.rsplit('/').next().unwrap().to_owned());
        }
        found
    }

    fn touch(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "A: b\n\nx\n").unwrap();
        }
    }

    #[test]
    fn a_maildir_is_read_in_the_order_of_arrival_and_goes_on_behind_a_mail_whose_flags_changed() {
        let dir = tempfile::tempdir().unwrap();
        let mails = [
            "cur/1000.b.host:2,S",
            "new/999.c.host",
            "cur/1000.a.host:2,",
            "tmp/1.x",
        ];
        touch(dir.path(), &mails);
        let all = ["999.c.host", "1000.a.host:2,", "1000.b.host:2,S"];
        let open = || Files::open(Layout::Maildir, dir.path()).unwrap();
        assert_eq!(names(open()), all);
        let place = behind(open(), 2);
        fs::rename(
            dir.path().join("new/999.c.host"),
            dir.path().join("cur/999.c.host:2,RS"),
        )
        .unwrap();
        touch(dir.path(), &["new/1001.d.host"]);
        let mut rest = open();
        assert!(rest.go_on(place.0, &place.1));
        assert_eq!((rest.done, rest.size()), (2, 4));
        assert_eq!(behind(rest, 1).0, 3);
        let mut rest = open();
        assert!(rest.go_on(place.0, &place.1));
        assert_eq!(names(rest), ["1000.b.host:2,S", "1001.d.host"]);
    }

    /// Where an import goes on behind so many more files.
    fn behind(mut files: Files, count: usize) -> (u64, String) {
        let mut after = None;
        for _ in 0..count {
            after = Some(files.next().unwrap().unwrap().after);
        }
        match after {
            Some(Behind::Files { count, check }) => (count, check),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_directory_that_is_another_one_behind_the_place_is_read_from_its_start() {
        for layout in [Layout::Eml, Layout::Maildir] {
            let dir = tempfile::tempdir().unwrap();
            touch(dir.path(), &["cur/10.eml", "cur/20.eml", "cur/30.eml"]);
            let open = || Files::open(layout, dir.path()).unwrap();
            let (count, check) = behind(open(), 2);
            touch(dir.path(), &["cur/25.eml"]);
            assert!(open().go_on(count, &check), "more is ahead only");
            let change = |change: &dyn Fn(&Path), undo: &dyn Fn(&Path)| {
                change(&dir.path().join("cur"));
                let mut files = open();
                assert!(!files.go_on(count, &check));
                assert_eq!((files.done, names(files).len() as u64), (0, open().size()));
                undo(&dir.path().join("cur"));
            };
            let old = |cur: &Path| fs::write(cur.join("05.eml"), "A: b\n\nx\n").unwrap();
            change(&old, &|cur| fs::remove_file(cur.join("05.eml")).unwrap());
            change(
                &|cur| fs::rename(cur.join("10.eml"), cur.join("11.eml")).unwrap(),
                &|cur| fs::rename(cur.join("11.eml"), cur.join("10.eml")).unwrap(),
            );
            assert!(open().go_on(count, &check), "it is what it was");
            change(
                &|cur| fs::write(cur.join("10.eml"), "A: b\n\nother\n").unwrap(),
                &|cur| {
                    fs::remove_dir_all(cur).unwrap();
                    touch(cur, &["40.eml"]);
                },
            );
            let mut fewer = open();
            assert!(!fewer.go_on(count, &check));
            assert_eq!(names(fewer), ["40.eml"]);
        }
    }

    #[test]
    fn what_is_passed_over_is_counted_and_named() {
        let dir = tempfile::tempdir().unwrap();
        touch(
            dir.path(),
            &[
                "b/2.EML",
                "a.eml",
                "b/1.eml",
                "b/notes.txt",
                "old.mbox",
                "c.eml.gz",
                "no-extension",
            ],
        );
        let link = |to: &str| std::os::unix::fs::symlink(dir.path(), dir.path().join(to)).unwrap();
        link("b/circle");
        link("b/z.eml");
        let mut files = Files::open(Layout::Eml, dir.path()).unwrap();
        let (said, shown) = (files.remarks(), dir.path().display());
        assert_eq!(
            said,
            [format!(
                "{shown}: passed over: 2 links (b/circle, b/z.eml), 4 other files (b/notes.txt, c.eml.gz, \
                 no-extension, old.mbox)"
            )]
        );
        assert_eq!(files.size(), 3);
        assert!(files.next().unwrap().unwrap().place.ends_with("/a.eml"));
        assert_eq!(names(files), ["1.eml", "2.EML"]);

        let dir = tempfile::tempdir().unwrap();
        touch(
            dir.path(),
            &[
                "cur/1.a",
                "tmp/2.b",
                ".Sent/cur/3.c",
                ".Archive/new/4.d",
                "Old\u{1b}/5",
                "dovecot-uidlist",
                "old.mbox",
                "cur/.hidden",
            ],
        );
        for name in 0..6 {
            let link = dir.path().join(format!("cur/{name}.link"));
            std::os::unix::fs::symlink("1.a", link).unwrap();
        }
        let files = Files::open(Layout::Maildir, dir.path()).unwrap();
        let said = files.remarks().concat();
        for part in [
            "3 subfolders (.Archive, .Sent, Old\\u{1b})",
            "6 links (cur/0.link, cur/1.link, cur/2.link, cur/3.link, cur/4.link, ...)",
            "2 other files (cur/.hidden, old.mbox)",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(names(files), ["1.a"]);
        touch(dir.path(), &["none/x.mbox"]);
        let none = Files::open(Layout::Eml, &dir.path().join("none")).err();
        assert!(none.is_some_and(|error| error.contains("1 other file (x.mbox)")));
    }
}
