//! Other people's mails through `parse` and the pipeline: none lost, none answered by mistake.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::process::binary;

/// Folders of mails, and how many files each has; what is there is counted, so nothing is skipped.
const FOLDERS: [(&str, usize); 9] = [
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

/// The folder of test material written by others.
pub fn shared() -> PathBuf {
    let folder = std::env::var("SWITCHBOARD_SHARED").unwrap_or_else(|_| "../shared".to_owned());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    assert!(
        folder.join("fixtures").is_dir(),
        "{} is not there: these tests read mails written by others from it; set SWITCHBOARD_SHARED",
        folder.display()
    );
    folder
}

/// The mails of a folder; a bare text is wrapped in a mail.
pub fn mails(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(shared().join("fixtures").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let bytes = if path.extension().is_some_and(|kind| kind == "txt") {
                wrap(&name, &bytes)
            } else {
                bytes
            };
            (path, bytes)
        })
        .collect();
    found.sort();
    found
}

fn wrap(name: &str, text: &[u8]) -> Vec<u8> {
    let head = format!(
        "From: writer@customer.example\r\nTo: support@shop.example\r\nSubject: A text\r\nMessage-ID: <{name}@customer.example>\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n"
    );
    [head.as_bytes(), text].concat()
}

#[test]
fn every_mail_is_parsed_to_an_event_and_machines_are_told_from_people() {
    for (folder, count) in FOLDERS {
        let mails = mails(folder);
        assert_eq!(mails.len(), count, "{folder}");
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = mails
            .iter()
            .map(|(path, bytes)| {
                let file = dir.path().join(path.file_name().unwrap());
                fs::write(&file, bytes).unwrap();
                file
            })
            .collect();
        let output = Command::new(binary())
            .args(["parse", "email"])
            .args(&files)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{folder}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let events: Vec<Value> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events.len(), count, "{folder}: an event each");
        for (event, file) in events.iter().zip(&files) {
            let automatic = event["automatic"]
                .as_bool()
                .expect("automatic is a boolean");
            match folder {
                "email_dsn" | "email_arf" | "email_autoreply" => {
                    assert!(automatic, "{}", file.display())
                }
                "email_notbounce" => assert!(!automatic, "{}", file.display()),
                _ => {}
            }
        }
    }
}
