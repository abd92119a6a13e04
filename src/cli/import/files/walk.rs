//! What of a directory is read as mails, in which order, and what is passed over: nobody should
//! believe a folder imported that was not.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Most files of one import: their names are in memory, about 100 bytes each.
const FILES_MAX: usize = 2_000_000;
/// Deepest directory looked into.
const DEPTH_MAX: usize = 32;
/// Most names that are shown of each kind of what is passed over.
const SHOWN_MAX: usize = 5;

/// What was found below a root.
#[derive(Default)]
pub struct Found {
    /// In the order in which they are read.
    pub files: Vec<Named>,
    pub passed_over: PassedOver,
}

/// A file by its path below the root, or a directory that cannot be read and why.
pub struct Named {
    pub path: Box<Path>,
    pub unreadable: Option<Box<str>>,
}

impl Named {
    /// What a mail of a Maildir is called for as long as it is there: its flags, which change, begin
    /// at the colon, and it moves from `new` to `cur`.
    pub fn unique(&self) -> &[u8] {
        let name = self.path.file_name().unwrap_or_default().as_bytes();
        name.split(|byte| *byte == b':').next().unwrap_or_default()
    }

    /// The seconds that the name of a mail in a Maildir begins with.
    fn arrival(&self) -> u64 {
        let digits = self.unique().split(|byte| !byte.is_ascii_digit()).next();
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}

/// What is not read, by kind.
#[derive(Default)]
pub struct PassedOver {
    folders: Kind,
    links: Kind,
    others: Kind,
}

#[derive(Default)]
struct Kind {
    count: u64,
    /// The first few.
    names: BTreeSet<String>,
}

impl Kind {
    fn add(&mut self, path: &Path) {
        self.count += 1;
        // Whoever made the files chose their names: none of them writes on the operator's terminal.
        let name = path.to_string_lossy().escape_debug().to_string();
        self.names.insert(name);
        if self.names.len() > SHOWN_MAX {
            self.names.pop_last();
        }
    }
}

impl PassedOver {
    pub fn is_empty(&self) -> bool {
        self.folders.count + self.links.count + self.others.count == 0
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (&self.folders, "subfolders"),
            (&self.links, "links"),
            (&self.others, "other files"),
        ];
        let kinds = kinds.iter().filter(|(kind, _)| kind.count > 0);
        let said: Vec<String> = kinds
            .map(|(kind, what)| {
                let names: Vec<&str> = kind.names.iter().map(String::as_str).collect();
                let more = match kind.count > names.len() as u64 {
                    true => ", ...",
                    false => "",
                };
                let what = match kind.count {
                    1 => what.trim_end_matches('s'),
                    _ => what,
                };
                format!("{} {what} ({}{more})", kind.count, names.join(", "))
            })
            .collect();
        write!(f, "{}", said.join(", "))
    }
}

/// The mails of `cur` and `new`, in the order of their arrival.
pub fn maildir(root: &Path) -> Result<Found, String> {
    let mut walk = Walk::new(root);
    let mut parts = Vec::new();
    walk.each(Path::new(""), |found, entry| {
        let name = PathBuf::from(entry.file_name());
        match (Entry::of(&entry), name.to_str()) {
            (Entry::Directory, Some("cur" | "new")) => parts.push(name),
            // Mails on their way into it.
            (Entry::Directory, Some("tmp")) => {}
            (Entry::Directory, _) => found.passed_over.folders.add(&name),
            (Entry::Link, _) => found.passed_over.links.add(&name),
            // Servers keep lists of their own beside the mails.
            (Entry::Other, _) if has_extension(&name, &["eml", "mbox"]) => {
                found.passed_over.others.add(&name);
            }
            (Entry::Other, _) => {}
        }
        Ok(())
    })?;
    for part in parts {
        walk.each(&part, |found, entry| {
            let path = part.join(entry.file_name());
            let hidden = entry.file_name().as_bytes().starts_with(b".");
            match Entry::of(&entry) {
                Entry::Link => found.passed_over.links.add(&path),
                Entry::Other if !hidden => return found.push(path, None),
                _ => found.passed_over.others.add(&path),
            }
            Ok(())
        })?;
    }
    let files = &mut walk.found.files;
    files.sort_unstable_by(|one, other| {
        let by_arrival = one.arrival().cmp(&other.arrival());
        by_arrival.then_with(|| one.unique().cmp(other.unique()))
    });
    Ok(walk.found)
}

/// All `.eml` files below a directory in the order of their paths.
pub fn eml(root: &Path) -> Result<Found, String> {
    let mut walk = Walk::new(root);
    let mut dirs = vec![(PathBuf::new(), 0)];
    while let Some((dir, depth)) = dirs.pop() {
        if depth > DEPTH_MAX {
            let reason = format!("it is nested deeper than {DEPTH_MAX} directories");
            walk.found.push(dir, Some(reason))?;
            continue;
        }
        walk.each(&dir, |found, entry| {
            let path = dir.join(entry.file_name());
            match Entry::of(&entry) {
                Entry::Directory => dirs.push((path, depth + 1)),
                // They are not followed: they may lead in a circle.
                Entry::Link => found.passed_over.links.add(&path),
                Entry::Other if has_extension(&path, &["eml"]) => return found.push(path, None),
                Entry::Other => found.passed_over.others.add(&path),
            }
            Ok(())
        })?;
    }
    let files = &mut walk.found.files;
    files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(walk.found)
}

struct Walk<'a> {
    root: &'a Path,
    found: Found,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path) -> Self {
        Self {
            root,
            found: Found::default(),
        }
    }

    /// Shows each entry of a directory, none of which is kept in memory. A directory that cannot be
    /// read is named among the files and stops nobody, but for the root itself.
    fn each(
        &mut self,
        dir: &Path,
        mut show: impl FnMut(&mut Found, DirEntry) -> Result<(), String>,
    ) -> Result<(), String> {
        let path = self.root.join(dir);
        let mut read = || -> io::Result<Result<(), String>> {
            for entry in fs::read_dir(&path)? {
                if let Err(reason) = show(&mut self.found, entry?) {
                    return Ok(Err(reason));
                }
            }
            Ok(Ok(()))
        };
        match read() {
            Ok(result) => result,
            Err(error) if dir.as_os_str().is_empty() => {
                Err(format!("cannot read {}: {error}", path.display()))
            }
            Err(error) => self.found.push(dir.to_owned(), Some(error.to_string())),
        }
    }
}

impl Found {
    pub fn push(&mut self, path: PathBuf, unreadable: Option<String>) -> Result<(), String> {
        if self.files.len() == FILES_MAX {
            return Err(format!(
                "more than {FILES_MAX} files: import parts of it one by one"
            ));
        }
        self.files.push(Named {
            path: path.into(),
            unreadable: unreadable.map(Into::into),
        });
        Ok(())
    }
}

/// What a directory holds, without following it.
enum Entry {
    Directory,
    Link,
    Other,
}

impl Entry {
    fn of(entry: &DirEntry) -> Self {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => Self::Directory,
            Ok(kind) if kind.is_symlink() => Self::Link,
            _ => Self::Other,
        }
    }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let found = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    extensions
        .iter()
        .any(|extension| found.eq_ignore_ascii_case(extension))
}
