//! Mails made to break a parser: nothing panics, nothing is lost, nothing takes long.

use std::time::{Duration, Instant};

use connector_api::{Bytes, Event};
use connector_email::parse::{OwnAddresses, ParseSettings, parse};
use proptest::prelude::*;

fn settings() -> ParseSettings {
    ParseSettings {
        own: OwnAddresses::new(["support@shop.example"]),
        authserv_id: Some("mx.shop.example".to_owned()),
        mail_bytes_max: 4 * 1024 * 1024,
    }
}

/// A mail that takes as long stands still; the slowest takes a tenth of it without optimisation.
const STANDSTILL: Duration = Duration::from_secs(20);

#[expect(
    clippy::disallowed_methods,
    reason = "a parser that stands still is no clock's matter"
)]
fn check(bytes: Vec<u8>) {
    let raw = Bytes::from(bytes);
    let begun = Instant::now();
    let event = parse(raw.clone(), &settings());
    assert!(begun.elapsed() < STANDSTILL, "{:?}", begun.elapsed());
    assert_eq!(event.raw.as_ref(), Some(&raw));
    assert!(event.dedupe_key.as_str().len() <= 300);
    if let Event::Message(message) = &event.event {
        assert!(!message.from.identities.is_empty());
        assert!(!message.text.contains('\0'));
        let subject = message.subject.as_deref().unwrap_or_default();
        assert!(!subject.contains(char::is_control), "{subject:?}");
    }
    assert_eq!(parse(raw, &settings()), event);
}

fn fixtures() -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

#[test]
fn bombs_are_bounded() {
    let header =
        |value: String| format!("From: a@b.example\r\nSubject: {value}\r\n\r\nx").into_bytes();
    check(header("=?utf-8?Q?".repeat(100_000)));
    check(header("=?a?Q?b?= ".repeat(100_000)));
    // Beginnings of words, and one end far behind them, in every header of many parts.
    for beginning in ["=? ", "=?utf-8", "=?utf-8?Q", "=?utf-8?x?", "=?utf-8?q?a"] {
        let value = format!("{} ?=", beginning.repeat(16_000 / beginning.len()));
        let fields = ["Subject", "To", "Cc"].map(|name| format!("{name}: {value}\r\n"));
        let file = format!(
            "--b\r\nContent-Type: application/pdf; name=\"{value}\"\r\nContent-ID: {value}\r\n\r\nx\r\n"
        );
        let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
        check(
            [fields.concat().as_str(), head, &file.repeat(40), "--b--"]
                .concat()
                .into_bytes(),
        );
    }
    check(header("\u{0}".repeat(1_000)));
    check(format!("To: {}\r\n\r\n", "(".repeat(200_000)).into_bytes());
    check(format!("To: {}\r\n\r\n", "a@b.example,".repeat(50_000)).into_bytes());
    check(format!("References: {}\r\n\r\n", "<a@b> ".repeat(50_000)).into_bytes());
    check(
        format!(
            "Authentication-Results: mx.shop.example; {}\r\n\r\n",
            "(((".repeat(20_000)
        )
        .into_bytes(),
    );
    check(
        format!(
            "Content-Type: text/plain; {}\r\n\r\n",
            "a*0*=b;".repeat(9_000)
        )
        .into_bytes(),
    );
    check(
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
            .iter()
            .copied()
            .chain(b"=".repeat(3_000_000))
            .collect(),
    );
    check(
        b"Content-Transfer-Encoding: base64\r\n\r\n"
            .iter()
            .copied()
            .chain(b"A".repeat(3_000_000))
            .collect(),
    );
    check(
        b"Content-Transfer-Encoding: base64\r\n\r\n"
            .iter()
            .copied()
            .chain(b"aGk=".repeat(500_000))
            .collect(),
    );
    check(b"A:\r\n".repeat(200_000));
    check(b"\r\n".repeat(500_000));
    check(vec![b'x'; 5 * 1024 * 1024]);
    let mut nested = Vec::new();
    for _ in 0..20_000 {
        nested.extend_from_slice(b"Content-Type: message/rfc822\r\n\r\n");
    }
    check(nested);
    let mut digests = Vec::new();
    for level in 0..10_000 {
        digests.extend_from_slice(
            format!("Content-Type: multipart/digest; boundary={level}\r\n\r\n--{level}\r\n\r\n")
                .as_bytes(),
        );
    }
    check(digests);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_an_event(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        check(bytes);
    }

    #[test]
    fn any_words_of_mail_are_an_event(words in proptest::collection::vec(0usize..WORDS.len(), 0..120)) {
        check(words.iter().flat_map(|&word| WORDS[word].bytes()).collect());
    }

    #[test]
    fn spoilt_mails_are_an_event(
        which in any::<prop::sample::Index>(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..8),
    ) {
        let fixtures = fixtures();
        let mut mail = fixtures[which.index(fixtures.len())].clone();
        for (at, byte, how) in cuts {
            if mail.is_empty() {
                break;
            }
            let at = at.index(mail.len());
            match how {
                0 => mail[at] = byte,
                1 => mail.insert(at, byte),
                2 => mail.truncate(at),
                _ => drop(mail.remove(at)),
            }
        }
        check(mail);
    }
}

const WORDS: [&str; 40] = [
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    "--",
    "b",
    "--b",
    "--b--",
    "\r\n\r\n",
    "From: ",
    "To: ",
    "Subject: ",
    "Message-ID: ",
    "References: ",
    "<",
    ">",
    "@",
    "a@b.example",
    ",",
    ";",
    ":",
    "\"",
    "\\",
    "(",
    ")",
    "=?utf-8?Q?",
    "=?iso-2022-jp?B?",
    "?=",
    "=E9",
    "=",
    "Content-Type: ",
    "multipart/mixed; boundary=b",
    "multipart/report; report-type=delivery-status; boundary=b",
    "message/delivery-status",
    "message/rfc822",
    "text/plain; charset=utf-16",
    "Action: failed\r\n",
    "Date: Mon, 5 Jan 2026 09:00:00 +0000\r\n",
    "Content-Transfer-Encoding: base64\r\n",
];
