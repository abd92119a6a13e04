//! Mails that are files of their own: a Maildir, an .eml file, a directory with such files.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use connector_api::ImportFormat;

use crate::daemon::import::ITEM_BYTES_MAX;

use super::Layout;
use super::batches::{Behind, Item, Reader};
use super::mbox::Mail;

/// Most files of one import: their names are in memory, about 200 bytes each.
const FILES_MAX: usize = 2_000_000;
/// Deepest directory looked into.
const DEPTH_MAX: usize = 32;

/// Files in their order.
pub struct Files {
    files: std::vec::IntoIter<Named>,
    count: u64,
    done: u64,
}

/// A file by what orders it: the seconds that its name begins with (Maildir), then its name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    seconds: u64,
    name: String,
    path: PathBuf,
}

impl Files {
    /// The mails of `cur` and `new`, in the order of their arrival, behind `after`.
    pub fn maildir(path: &Path, after: Option<&str>) -> Result<Self, String> {
        let mut found = Vec::new();
        for part in ["cur", "new"] {
            let part = path.join(part);
            if !part.is_dir() {
                continue;
            }
            for entry in entries(&part)? {
                // A name's flags change while the mail stays: they begin at the colon.
                let name = entry.file_name().to_string_lossy().into_owned();
                let unique = name.split(':').next().unwrap_or_default().to_owned();
                if is_file(&entry) && !name.starts_with('.') {
                    push(&mut found, Named::of_maildir(unique, entry.path()))?;
                }
            }
        }
        let after = after.map(|name| Named::of_maildir(name.to_owned(), PathBuf::new()));
        Ok(Self::behind(found, after.as_ref()))
    }

    /// The one file, or all `.eml` files below a directory in the order of their paths.
    pub fn eml(path: &Path, after: Option<&str>) -> Result<Self, String> {
        let mut found = Vec::new();
        match path.is_dir() {
            true => collect(path, path, 0, &mut found)?,
            false => found.push(Named::of_path(path, path)),
        }
        if found.is_empty() {
            return Err(format!(
                "{} holds neither .eml files nor a Maildir (cur, new)",
                path.display()
            ));
        }
        let after = after.map(|name| Named {
            seconds: 0,
            name: name.to_owned(),
            path: PathBuf::new(),
        });
        Ok(Self::behind(found, after.as_ref()))
    }

    fn behind(mut found: Vec<Named>, after: Option<&Named>) -> Self {
        found.sort_unstable();
        let count = found.len() as u64;
        let place = |file: &Named| (file.seconds, file.name.clone());
        if let Some(after) = after {
            let after = place(after);
            found.retain(|file| place(file) > after);
        }
        Self {
            done: count - found.len() as u64,
            count,
            files: found.into_iter(),
        }
    }
}

impl Named {
    fn of_maildir(name: String, path: PathBuf) -> Self {
        let digits = name.split(|c: char| !c.is_ascii_digit()).next();
        let seconds = digits.and_then(|digits| digits.parse().ok());
        Self {
            seconds: seconds.unwrap_or(0),
            name,
            path,
        }
    }

    fn of_path(root: &Path, path: &Path) -> Self {
        let below = path.strip_prefix(root).unwrap_or(path);
        Self {
            seconds: 0,
            name: below.to_string_lossy().into_owned(),
            path: path.to_owned(),
        }
    }
}

impl Reader for Files {
    fn next(&mut self) -> io::Result<Option<Item>> {
        let Some(file) = self.files.next() else {
            return Ok(None);
        };
        self.done += 1;
        Ok(Some(Item {
            place: file.path.display().to_string(),
            content: read(&file.path).unwrap_or_else(|error| Err(error.to_string())),
            after: Behind::Name(file.name),
            done: self.done,
        }))
    }

    fn size(&self) -> u64 {
        self.count
    }
}

/// What a path holds, for a channel that reads `format`.
pub fn recognise(path: &Path, format: ImportFormat) -> Result<Layout, String> {
    if path.is_dir() {
        let is_maildir = path.join("cur").is_dir() || path.join("new").is_dir();
        return Ok(match is_maildir {
            true => Layout::Maildir,
            false => Layout::Eml,
        });
    }
    let mut start = Vec::new();
    let file = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    file.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let is = |name: &str| extension == name;
    Ok(match format {
        _ if is("eml") => Layout::Eml,
        _ if is("jsonl") || is("ndjson") || start.starts_with(b"{") => Layout::Jsonl,
        _ if is("mbox") || start.starts_with(b"From ") => Layout::Mbox,
        ImportFormat::Json => Layout::Jsonl,
        _ => Layout::Eml,
    })
}

/// A mail's bytes, or why they are none; an error is of the file.
fn read(path: &Path) -> io::Result<Result<connector_api::Bytes, String>> {
    let file = File::open(path)?;
    let mut input = BufReader::new(file.take(ITEM_BYTES_MAX + 1));
    let mut mail = Mail::default();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        mail.push(&line);
        line.clear();
    }
    Ok(mail.whole())
}

fn collect(root: &Path, dir: &Path, depth: usize, found: &mut Vec<Named>) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("{} is nested too deep", dir.display()));
    }
    for entry in entries(dir)? {
        let path = entry.path();
        // Links are not followed: they may lead in a circle.
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_eml = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("eml"));
        if is_dir {
            collect(root, &path, depth + 1, found)?;
        } else if is_eml && is_file(&entry) {
            push(found, Named::of_path(root, &path))?;
        }
    }
    Ok(())
}

fn push(found: &mut Vec<Named>, file: Named) -> Result<(), String> {
    if found.len() == FILES_MAX {
        return Err(format!(
            "more than {FILES_MAX} files: import parts of it one by one"
        ));
    }
    found.push(file);
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, String> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", dir.display());
    let entries = fs::read_dir(dir).map_err(failed)?;
    entries.collect::<io::Result<Vec<_>>>().map_err(failed)
}

fn is_file(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(mut files: Files) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(item) = files.next().unwrap() {
            let Behind::Name(name) = item.after else {
                panic!("files have names")
            };
            found.push(name);
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
        assert_eq!(
            recognise(dir.path(), ImportFormat::Mail),
            Ok(Layout::Maildir)
        );
        let all = ["999.c.host", "1000.a.host", "1000.b.host"];
        assert_eq!(names(Files::maildir(dir.path(), None).unwrap()), all);
        let rest = Files::maildir(dir.path(), Some("1000.a.host")).unwrap();
        assert_eq!((rest.done, rest.size()), (2, 3));
        assert_eq!(names(rest), ["1000.b.host"]);
    }

    #[test]
    fn a_directory_is_searched_for_eml_files_only_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["b/2.EML", "a.eml", "b/1.eml", "b/notes.txt"]);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("b/circle")).unwrap();
        let found = names(Files::eml(dir.path(), None).unwrap());
        assert_eq!(found, ["a.eml", "b/1.eml", "b/2.EML"]);
        assert_eq!(
            names(Files::eml(dir.path(), Some("b/1.eml")).unwrap()),
            ["b/2.EML"]
        );
        let empty = Files::eml(&dir.path().join("b/circle/none"), None);
        assert!(
            empty.is_ok_and(|files| files.size() == 1),
            "the file itself"
        );
    }

    #[test]
    fn what_a_file_holds_is_told_by_its_name_and_its_first_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for (name, start, format, layout) in [
            ("x", "From a Mon", ImportFormat::Mail, Layout::Mbox),
            ("x", "Return-Path: <>", ImportFormat::Mail, Layout::Eml),
            ("x.eml", "From a Mon", ImportFormat::Mail, Layout::Eml),
            ("x", "{\"type\"", ImportFormat::Mail, Layout::Jsonl),
            ("x", " {", ImportFormat::Json, Layout::Jsonl),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, start).unwrap();
            assert_eq!(recognise(&path, format), Ok(layout), "{name} {start}");
        }
    }
}
