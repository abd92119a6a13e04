//! Every mail of the shared fixture folder through the parser.

use std::collections::BTreeMap;

use connector_api::{Automatic, Bytes, Event, InboundEvent};
use connector_email::parse::{OwnAddresses, ParseSettings, parse};

use crate::shared_mails::{FOLDERS, mails};

fn settings() -> ParseSettings {
    ParseSettings {
        own: OwnAddresses::new(["support@shop.example"]),
        authserv_id: None,
        mail_bytes_max: 25 * 1024 * 1024,
    }
}

fn parsed(folder: &str) -> BTreeMap<String, InboundEvent> {
    let parsed = mails(folder)
        .into_iter()
        .map(|(name, bytes)| (name, parse(Bytes::from(bytes), &settings())));
    parsed.collect()
}

#[test]
fn every_fixture_becomes_an_event_with_its_bytes() {
    for (folder, _) in FOLDERS {
        for (name, bytes) in mails(folder) {
            let bytes = Bytes::from(bytes);
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
