//! Every mail of the shared fixture folder through the parser.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use connector_api::{Automatic, Bytes, Event, InboundEvent};
use connector_email::parse::{OwnAddresses, ParseSettings, parse};

/// Files per folder; a changed number means that the folder changed, not that a test may pass.
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

fn fixtures() -> PathBuf {
    let shared = std::env::var_os("SWITCHBOARD_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let fixtures = shared.join("fixtures");
    assert!(
        fixtures.is_dir(),
        "the shared fixtures are missing: set SWITCHBOARD_SHARED (looked in {})",
        fixtures.display()
    );
    fixtures
}

fn settings() -> ParseSettings {
    ParseSettings {
        own: OwnAddresses::new(["support@shop.example"]),
        authserv_id: None,
        mail_bytes_max: 25 * 1024 * 1024,
    }
}

/// The files of a folder by name; what is no mail is wrapped in one.
fn mails(folder: &str) -> BTreeMap<String, Bytes> {
    let mut mails = BTreeMap::new();
    for entry in std::fs::read_dir(fixtures().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let bytes = match path.extension().and_then(|extension| extension.to_str()) {
            Some("eml") => bytes,
            Some("html") => wrapped(&name, "text/html", bytes),
            _ => wrapped(&name, "text/plain", bytes),
        };
        mails.insert(name, Bytes::from(bytes));
    }
    mails
}

fn wrapped(name: &str, content_type: &str, body: Vec<u8>) -> Vec<u8> {
    let header = format!(
        "From: customer@example.org\r\nTo: support@shop.example\r\nSubject: {name}\r\nMessage-ID: <{name}@example.org>\r\nContent-Type: {content_type}\r\n\r\n"
    );
    [header.into_bytes(), body].concat()
}

fn parsed(folder: &str) -> BTreeMap<String, InboundEvent> {
    let parsed = mails(folder)
        .into_iter()
        .map(|(name, bytes)| (name, parse(bytes, &settings())));
    parsed.collect()
}

#[test]
fn every_fixture_becomes_an_event_with_its_bytes() {
    for (folder, count) in FOLDERS {
        let mails = mails(folder);
        assert_eq!(mails.len(), count, "files in {folder}");
        for (name, bytes) in mails {
            let event = parse(bytes.clone(), &settings());
            assert_eq!(event.raw.as_ref(), Some(&bytes), "{folder}/{name}");
            assert!(!event.dedupe_key.as_str().is_empty(), "{folder}/{name}");
            let again = parse(bytes, &settings());
            assert_eq!(event, again, "{folder}/{name}");
            if let Event::Message(message) = event.event {
                assert!(!message.from.identities.is_empty(), "{folder}/{name}");
                assert!(!message.text.contains('\0'), "{folder}/{name}");
            }
        }
    }
}

#[test]
fn all_machine_mail_is_automatic() {
    for (folder, allowed) in [
        ("email_dsn", &[Automatic::Bounce, Automatic::Generated][..]),
        ("email_arf", &[Automatic::FeedbackReport][..]),
        // One of them has nothing but its subject and what it answers.
        (
            "email_autoreply",
            &[Automatic::AutoReply, Automatic::Generated][..],
        ),
    ] {
        let missed: Vec<String> = parsed(folder)
            .into_iter()
            .filter(|(_, event)| !event.automatic.is_some_and(|kind| allowed.contains(&kind)))
            .map(|(name, event)| format!("{name}: {:?}", event.automatic))
            .collect();
        assert!(missed.is_empty(), "{folder}: {missed:#?}");
    }
}

#[test]
fn no_human_mail_is_automatic() {
    for name_and_event in parsed("email_notbounce") {
        assert_eq!(name_and_event.1.automatic, None, "{}", name_and_event.0);
    }
}
