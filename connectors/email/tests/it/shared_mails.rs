//! Mails written by others, for tests: they are under other licences and not in this repository.
//! The daemon's tests read them through this file, too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders and how many files each has: a changed number means that the folder changed, not that a
/// test may pass over it.
pub const FOLDERS: [(&str, usize); 9] = [
    ("email_arf", 6),
    ("email_auth", 8),
    ("email_autoreply", 4),
    ("email_dsn", 72),
    ("email_helpdesk", 22),
    ("email_malformed", 33),
    ("email_mime", 106),
    ("email_notbounce", 2),
    ("email_reply", 94),
];

/// The mails of a folder by file name; what is no mail is wrapped in one.
pub fn mails(folder: &str) -> BTreeMap<String, Vec<u8>> {
    let mut mails = BTreeMap::new();
    for entry in fs::read_dir(shared().join("fixtures").join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        let kind = path.extension().and_then(|kind| kind.to_str());
        let mail = match kind {
            Some("eml") => bytes,
            Some("html") => wrapped(&name, "text/html", &bytes),
            _ => wrapped(&name, "text/plain", &bytes),
        };
        mails.insert(name, mail);
    }
    let expected = FOLDERS.iter().find(|(known, _)| *known == folder);
    assert_eq!(
        Some(mails.len()),
        expected.map(|(_, count)| *count),
        "files in {folder}"
    );
    mails
}

fn wrapped(name: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "From: customer@example.org\r\nTo: support@shop.example\r\nSubject: {name}\r\n\
         Message-ID: <{name}@example.org>\r\nContent-Type: {content_type}; charset=utf-8\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// `shared` beside the checkout, or where `SWITCHBOARD_SHARED` says.
pub fn shared() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = match std::env::var_os("SWITCHBOARD_SHARED") {
        Some(shared) => Some(package.join(shared)),
        None => package
            .ancestors()
            .map(|dir| dir.join("shared"))
            .find(|dir| dir.join("fixtures").is_dir()),
    };
    let shared = shared.unwrap_or_default();
    assert!(
        shared.join("fixtures").is_dir(),
        "the folder 'shared' with the mails of others is not beside this checkout ({}): set SWITCHBOARD_SHARED",
        shared.display()
    );
    shared
}
