//! Other people's mails through `parse` and the pipeline: none is lost, every person gets one
//! acknowledgement, no machine gets any.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use connector_api::{Event, InboundEvent};
use rusqlite::Connection;
use serde_json::Value;
use switchboard::blobs::sha256;
use switchboard::bus::{Content, decode};
use switchboard::conversation::Delivery;
use switchboard::router::effects::Author;
use switchboard::store::sqlite::database_path;

use super::post_office::PostOffice;
use super::process::{Installation, PATIENCE, binary};
use super::shared_mails::{FOLDERS, mails};
use crate::peers::wait_until;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Person,
    Machine,
}

/// A file, and what shows that it is not as the others of its folder.
type Exception = (&'static str, &'static str);

/// Who wrote the mails of each folder, and which of its files somebody else wrote, with what shows
/// it. Advertising and notices that carry no sign of a machine count as a person's: a person taken
/// for a machine waits in vain for a word, and a word to an advertiser does no harm.
const WRITERS: [(&str, Writer, &[Exception]); 9] = [
    ("email_arf", Writer::Machine, &[]),
    (
        "email_auth",
        Writer::Person,
        &[("mailauth-message3.eml", "a newsletter: List-Unsubscribe")],
    ),
    ("email_autoreply", Writer::Machine, &[]),
    ("email_dsn", Writer::Machine, &[]),
    (
        "email_helpdesk",
        Writer::Person,
        &[
            ("chatwoot-auto_reply.eml", "X-Autoreply: yes"),
            (
                "chatwoot-non_utf_encoded_mail.eml",
                "Auto-Submitted: auto-replied",
            ),
        ],
    ),
    (
        "email_malformed",
        Writer::Person,
        &[
            (
                "mikel-empty_in_reply_to.eml",
                "over a mailing list: List-Id",
            ),
            ("mikel-encoding_madness.eml", "from no-reply@"),
        ],
    ),
    (
        "email_mime",
        Writer::Person,
        &[
            (
                "flanker-apache-message-news-mime.eml",
                "over a mailing list: Precedence: bulk",
            ),
            (
                "flanker-from-encoding.eml",
                "over a mailing list: Precedence: bulk",
            ),
            (
                "flanker-message-external-body.eml",
                "over a mailing list: Precedence: bulk",
            ),
            (
                "mikel-mime_emails-raw_email_encoded_stack_level_too_deep.eml",
                "from gmail-noreply@",
            ),
            (
                "mikel-plain_emails-raw_email_trailing_dot.eml",
                "from noreply@",
            ),
            (
                "stalwart-thirdparty-014.eml",
                "over a mailing list: List-Id",
            ),
        ],
    ),
    ("email_notbounce", Writer::Person, &[]),
    ("email_reply", Writer::Person, &[]),
];

/// A mail of the corpus, made one of its own.
struct Fixture {
    name: String,
    writer: Writer,
    mail: Vec<u8>,
}

/// All of the corpus, in one order; the place in it is a mail's number.
fn fixtures() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for ((folder, _), (known, writer, exceptions)) in FOLDERS.into_iter().zip(WRITERS) {
        assert_eq!(folder, known, "the tables are of the same folders");
        let mails = mails(folder);
        for (file, _) in exceptions {
            assert!(mails.contains_key(*file), "{folder} has no {file}");
        }
        for (file, mail) in mails {
            let excepted = exceptions.iter().any(|(name, _)| *name == file);
            let writer = match (writer, excepted) {
                (Writer::Person, true) => Writer::Machine,
                (writer, _) => writer,
            };
            fixtures.push(Fixture {
                name: format!("{folder}/{file}"),
                writer,
                mail: made_own(fixtures.len(), &mail),
            });
        }
    }
    fixtures
}

/// The same mail with a Message-ID and a sender of its own: none is a redelivery of another, and
/// the limit of one acknowledgement a day and address hides none. Only the sender's domain
/// changes, since a local part may be what shows a machine.
fn made_own(number: usize, mail: &[u8]) -> Vec<u8> {
    let mut lines = mail.split_inclusive(|byte| *byte == b'\n').peekable();
    let mut own = Vec::new();
    // Empty lines and an mbox separator may stand before the header.
    while let Some(line) = lines.next_if(|line| is_empty(line) || line.starts_with(b"From ")) {
        own.extend_from_slice(line);
    }
    own.extend_from_slice(format!("Message-ID: <{}>\r\n", message_id(number)).as_bytes());
    let has_header = lines.peek().is_some_and(|line| name_of(line).is_some());
    let mut header = Vec::new();
    let (mut field, mut has_from) = (String::new(), false);
    while let Some(line) = lines.next_if(|line| has_header && !is_empty(line)) {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            field = name_of(line).unwrap_or_default();
        }
        match field.as_str() {
            "message-id" => {}
            "from" => {
                has_from = true;
                for byte in line {
                    header.push(*byte);
                    if *byte == b'@' {
                        header.extend_from_slice(format!("n{number}.").as_bytes());
                    }
                }
            }
            _ => header.extend_from_slice(line),
        }
    }
    if !has_from {
        own.extend_from_slice(format!("From: writer@n{number}.example\r\n").as_bytes());
    }
    own.extend_from_slice(&header);
    if !has_header {
        own.extend_from_slice(b"\r\n");
    }
    lines.for_each(|line| own.extend_from_slice(line));
    own
}

fn message_id(number: usize) -> String {
    format!("n{number}@corpus.example")
}

/// Whether a line ends a header; one of blanks does not.
fn is_empty(line: &[u8]) -> bool {
    matches!(line, b"\n" | b"\r\n")
}

/// The name of the header field that a line begins.
fn name_of(line: &[u8]) -> Option<String> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(line.get(..colon)?).ok()?.trim_end();
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_name.then(|| name.to_lowercase())
}

/// Mails of people that get no acknowledgement: two that a mail filter marked as spam, and three
/// that name no author, so that there is nobody to answer.
const UNANSWERED: [&str; 5] = [
    "email_malformed/mikel-empty_group_lists.eml",
    "email_mime/mikel-plain_emails-raw_email_bad_time.eml",
    "email_mime/stalwart-rfc-001.eml",
    "email_mime/stalwart-rfc-004.eml",
    "email_mime/stalwart-thirdparty-007.eml",
];

/// What the store holds of one mail.
#[derive(Default)]
struct Filed {
    events: Vec<InboundEvent>,
    is_raw_kept: bool,
    /// What became of its acknowledgements.
    acknowledgements: Vec<Delivery>,
}

#[test]
fn every_mail_is_parsed_to_an_event_and_machines_are_told_from_people() {
    let fixtures = fixtures();
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = (0..fixtures.len())
        .map(|number| dir.path().join(format!("{number:03}.eml")))
        .collect();
    for (file, fixture) in files.iter().zip(&fixtures) {
        fs::write(file, &fixture.mail).unwrap();
    }
    let output = Command::new(binary())
        .args(["parse", "email"])
        .args(&files)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let events: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), fixtures.len(), "an event each");
    let mut wrong = Vec::new();
    for (number, (event, fixture)) in events.iter().zip(&fixtures).enumerate() {
        let is_machine = fixture.writer == Writer::Machine;
        let key = format!("mid:{}", message_id(number));
        if event["automatic"] != is_machine || event["dedupe_key"] != key {
            wrong.push(format!("{}: {event}", fixture.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_mail_is_filed_once_and_each_person_gets_one_acknowledgement_and_no_machine_any() {
    let fixtures = fixtures();
    let office = PostOffice::open();
    let daemon = Installation::start(&format!(
        "[queues.frontline]\n{}acknowledge = \"We have your mail.\"\n",
        office.config()
    ));
    office.wait_for_reader();
    for fixture in &fixtures {
        office.deliver(fixture.mail.clone());
    }
    wait_until("every mail to be decided", PATIENCE * 2, || {
        daemon.metric("switchboard_routed_total") >= fixtures.len() as f64
    });
    let unsent = "SELECT count(*) FROM outbox";
    let database = Connection::open(database_path(&daemon.dir.path().join("data"))).unwrap();
    wait_until("every acknowledgement to leave", PATIENCE * 2, || {
        database.query_row(unsent, [], |row| row.get::<_, i64>(0)) == Ok(0)
    });
    assert!(daemon.terminate(), "it ends with success");

    let filed = filed(&database, &fixtures);
    let dead = database.query_row("SELECT count(*) FROM dead_letter", [], |row| row.get(0));
    assert_eq!(dead, Ok(0_i64), "dead letters");
    let mut wrong = Vec::new();
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for (fixture, filed) in fixtures.iter().zip(&filed) {
        let [event] = filed.events.as_slice() else {
            wrong.push(format!(
                "{}: filed {} times",
                fixture.name,
                filed.events.len()
            ));
            continue;
        };
        let is_machine = fixture.writer == Writer::Machine;
        if event.automatic.is_some() != is_machine {
            wrong.push(format!("{}: automatic {:?}", fixture.name, event.automatic));
        }
        if !filed.is_raw_kept {
            wrong.push(format!("{}: its bytes are not kept", fixture.name));
        }
        let address = sender(event);
        // The mail server of this test takes no international addresses (RFC 6531).
        let delivery = match address.is_ascii() {
            true => Delivery::Sent,
            false => Delivery::Refused,
        };
        let is_answered = !is_machine && !UNANSWERED.contains(&fixture.name.as_str());
        let due = if is_answered { vec![delivery] } else { vec![] };
        if filed.acknowledgements != due {
            let found = &filed.acknowledgements;
            wrong.push(format!(
                "{}: acknowledged {found:?}, not {due:?}",
                fixture.name
            ));
        }
        if due == [Delivery::Sent] {
            *expected.entry(address).or_default() += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut received: BTreeMap<String, usize> = BTreeMap::new();
    for mail in office.sent() {
        assert_eq!(mail.from, "", "an acknowledgement has a null sender");
        let text = String::from_utf8_lossy(&mail.raw).to_lowercase();
        assert!(text.contains("auto-submitted: auto-replied"), "{text}");
        for to in mail.to {
            *received.entry(to).or_default() += 1;
        }
    }
    assert!(expected.values().all(|count| *count == 1), "a sender each");
    assert_eq!(received, expected, "one mail to each person");
}

/// Reads what the store holds of each mail.
fn filed(database: &Connection, fixtures: &[Fixture]) -> Vec<Filed> {
    let mut filed: Vec<Filed> = fixtures.iter().map(|_| Filed::default()).collect();
    let mut messages = database
        .prepare(
            "SELECT message.author, message.delivery, body.content, founder.content, raw.content, raw.sha256
             FROM message JOIN body ON body.id = message.body
             JOIN body AS founder ON founder.id = message.conversation
             LEFT JOIN raw ON raw.id = message.id ORDER BY message.id",
        )
        .unwrap();
    let mut rows = messages.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let event = |column| match decode(&row.get::<_, Vec<u8>>(column).unwrap()) {
            Content::Envelope(envelope) => envelope.event.clone(),
            other => panic!("a stored message is {other:?}"),
        };
        match Author::from_code(row.get(0).unwrap()) {
            Author::Automation => {
                let delivery = Delivery::from_code(row.get(1).unwrap()).unwrap();
                filed[number_of(&event(3))].acknowledgements.push(delivery);
            }
            _ => {
                let event = event(2);
                let number = number_of(&event);
                let mail = &fixtures[number].mail;
                let kept: Option<Vec<u8>> = row.get(4).unwrap();
                let digest: Option<Vec<u8>> = row.get(5).unwrap();
                let redacted = event
                    .defects
                    .iter()
                    .any(|known| known.code == "raw_not_kept");
                filed[number].is_raw_kept = redacted
                    || kept.as_ref() == Some(mail)
                    || digest.as_deref() == Some(sha256(mail).as_slice());
                filed[number].events.push(event);
            }
        }
    }
    filed
}

/// Which mail of the corpus an event is.
fn number_of(event: &InboundEvent) -> usize {
    let key = event.dedupe_key.as_str();
    let number = key
        .strip_prefix("mid:n")
        .and_then(|rest| rest.split('@').next());
    let number = number.and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{key} is the key of no mail of these"))
}

fn sender(event: &InboundEvent) -> String {
    let Event::Message(message) = &event.event else {
        panic!("{} is no message", event.dedupe_key);
    };
    message.from.identities[0].address.clone()
}
