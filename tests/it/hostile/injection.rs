//! Headers injected into answers: whatever stands in a subject, a name, a file's name or an address,
//! exactly our headers arrive, and nobody else is written to.

use std::sync::Arc;

use connector_api::{
    BrandId, BuildContext, Error, HttpClient, HttpRequest, HttpResponse, Namespace,
    OutboundAttachment, OutboundMessage, Recipient, Result, SecretRef, SecretResolver,
    SecretString, async_trait,
};
use connector_email::{Composer, Config};
use mail_parser::MessageParser;
use serde_json::{Value, json};
use switchboard::clock::timestamp;

use crate::peers::mail::header;
use crate::peers::{self, Dovecot, Postfix};
use crate::support::{ManualClock, random};

/// Mails that are written, and those that a real server takes and hands on.
const WRITTEN: usize = 10_000;
const SENT: usize = 200;

const ONCE: [&str; 8] = [
    "Date",
    "From",
    "To",
    "Message-ID",
    "X-Switchboard-ID",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
];
const AUTOMATIC: [&str; 4] = [
    "X-Loop",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "Precedence",
];
/// What servers on the way put above it.
const TRACES: [&str; 4] = ["Return-Path", "X-Original-To", "Delivered-To", "Received"];

struct Nothing;

#[async_trait]
impl HttpClient for Nothing {
    async fn execute(&self, _: HttpRequest) -> Result<HttpResponse> {
        Err(Error::unavailable("mail needs no HTTP"))
    }
}

impl SecretResolver for Nothing {
    fn resolve(&self, _: &SecretRef) -> Result<SecretString> {
        Ok("secret".to_owned().into())
    }
}

fn context() -> BuildContext {
    BuildContext::new(
        "support-mail".parse().unwrap(),
        BrandId::default(),
        Arc::new(ManualClock::new()),
        Arc::new(Nothing),
        Arc::new(Nothing),
    )
}

fn config(imap_port: u16, smtp_port: u16) -> Value {
    json!({
        "address": "support@shop.example",
        "imap": {
            "host": "127.0.0.1", "port": imap_port, "tls": "none",
            "user": "support", "password": { "env": "PASSWORD" },
        },
        "smtp": { "host": "127.0.0.1", "port": smtp_port, "tls": "none" },
    })
}

/// Pieces that injections are made of.
const PIECES: [&str; 34] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\r\n ",
    "\n\t",
    "\r\n\r\n",
    "\u{85}",
    "\u{2028}",
    "\u{2029}",
    "\u{b}",
    "\u{c}",
    "%0d%0a",
    "=0D=0A",
    "=?utf-8?Q?=0D=0ABcc:_eve=40evil.example?=",
    "=?utf-8?B?DQpCY2M6IGV2ZUBldmlsLmV4YW1wbGU=?=",
    "=?x?=",
    "?=",
    "Bcc: eve@evil.example",
    "Content-Type: text/html",
    "X-Evil: 1",
    "To: eve@evil.example",
    "<eve@evil.example>",
    ", ",
    ";",
    "\"",
    "\\",
    "(",
    ":",
    "\u{202e}",
    "Grüße",
    "嘊嘍",
    "a",
    "--=_1_msg--",
];

fn hostile(seed: &mut u64) -> String {
    let mut text = String::new();
    for _ in 0..random(seed) % 8 {
        text += PIECES[(random(seed) % PIECES.len() as u64) as usize];
        // Long ones are folded by the writer, and a fold is a place to break out of.
        if random(seed).is_multiple_of(16) {
            text += &"long words ".repeat((random(seed) % 40) as usize);
        }
    }
    text
}

fn recipient(address: &str, name: Option<String>) -> Recipient {
    Recipient {
        namespace: Namespace::email(),
        address: address.to_owned(),
        name,
    }
}

/// An answer whose every field is an attempt, and how many fields those are.
fn answer(number: usize, seed: &mut u64) -> (OutboundMessage, usize) {
    let mut fields = 6;
    let mut file = OutboundAttachment::of(&hostile(seed), &hostile(seed), b"file".to_vec());
    if random(seed).is_multiple_of(4) {
        file.content_id = Some(hostile(seed));
        fields += 1;
    }
    let address = match random(seed) % 6 {
        0 => format!("ada@customer.example{}", hostile(seed)),
        1 => format!("{}ada@customer.example", hostile(seed)),
        2 => format!("\"{}\"@customer.example", hostile(seed)),
        _ => "ada@customer.example".to_owned(),
    };
    let references: Vec<String> = (0..random(seed) % 4)
        .map(|_| format!("{}@x", hostile(seed)))
        .collect();
    fields += references.len() + 1;
    let message = OutboundMessage {
        id: format!("msg_{number:032x}"),
        conversation: "cnv_1".to_owned(),
        reply_token: format!("sb{}", "k3".repeat(13)),
        to: recipient(&address, Some(hostile(seed))),
        also_to: Vec::new(),
        cc: vec![recipient("bob@customer.example", Some(hostile(seed)))],
        bcc: Vec::new(),
        thread: None,
        subject: Some(hostile(seed)),
        text: hostile(seed),
        html: random(seed).is_multiple_of(2).then(|| hostile(seed)),
        attachments: vec![file],
        references,
        automatic: random(seed).is_multiple_of(2),
        accepted_at: timestamp(1_800_000_000_000_000),
    };
    (message, fields)
}

/// The names of the headers, read as strictly as can be: one a line, folded lines below theirs.
fn names(mail: &[u8]) -> Vec<String> {
    let end = mail
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("an end of the head");
    let head = mail.split_at(end).0;
    let text = String::from_utf8(head.to_vec()).expect("a head of ASCII");
    let mut names = Vec::new();
    for line in text.split("\r\n") {
        assert!(
            !line.contains(char::is_control) || line.starts_with('\t'),
            "{line:?} in {text}"
        );
        assert!(line.len() <= 998, "{line}");
        if !line.starts_with([' ', '\t']) {
            let (name, _) = line
                .split_once(':')
                .unwrap_or_else(|| panic!("{line:?} in {text}"));
            names.push(name.to_owned());
        }
    }
    names
}

/// Exactly our headers, each once, and exactly our parts.
fn check(mail: &[u8], message: &OutboundMessage) {
    let shown = String::from_utf8_lossy(mail).into_owned();
    let mut found = names(mail);
    found.retain(|name| !TRACES.contains(&name.as_str()));
    let mut expected = ONCE.to_vec();
    expected.push("Cc");
    if message.automatic {
        expected.extend(AUTOMATIC);
    }
    // An empty subject is left out or empty, and ids that cannot stand in a header are left out.
    for optional in ["Subject", "In-Reply-To", "References"] {
        if found.iter().any(|name| name == optional) {
            expected.push(optional);
        }
    }
    found.sort();
    expected.sort_unstable();
    assert_eq!(found, expected, "{shown}");
    let parsed = MessageParser::default().parse(mail).expect("a mail");
    let addresses = |list: Option<&mail_parser::Address<'_>>| -> Vec<String> {
        list.map(|list| {
            list.iter()
                .filter_map(|one| one.address())
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default()
    };
    // A quoted address is written as it is; this reader of mail leaves out what is in the quotes.
    match message.to.address.strip_prefix('"') {
        None => assert_eq!(
            addresses(parsed.to()),
            [message.to.address.as_str()],
            "{shown}"
        ),
        Some(_) => {
            let to = header(mail, "To").unwrap_or_default();
            let last = to.trim_end_matches('>').rsplit(['<', ' ']).next();
            assert_eq!(last, Some(message.to.address.as_str()), "{shown}");
        }
    }
    assert_eq!(addresses(parsed.cc()), ["bob@customer.example"], "{shown}");
    assert_eq!(
        addresses(parsed.from()),
        ["support@shop.example"],
        "{shown}"
    );
    assert!(parsed.bcc().is_none(), "{shown}");
    let subject = parsed.subject().unwrap_or_default();
    assert!(!subject.contains(char::is_control), "{subject:?}");
    let parts = 3 + 2 * usize::from(message.html.is_some());
    assert!(
        parsed.parts.len() <= parts,
        "{} parts: {shown}",
        parsed.parts.len()
    );
    for part in &parsed.parts {
        for header in part.headers() {
            let name = header.name().to_lowercase();
            let known = [
                "content-type",
                "content-transfer-encoding",
                "content-disposition",
                "content-id",
            ];
            assert!(
                std::ptr::eq(part, &parsed.parts[0]) || known.contains(&name.as_str()),
                "{name}: {shown}"
            );
        }
    }
}

#[tokio::test]
async fn whatever_is_answered_to_exactly_our_headers_are_written() {
    let config: Config = serde_json::from_value(config(1, 1)).unwrap();
    let composer = Composer::new(config, &context()).unwrap();
    let (mut seed, mut fields, mut refused) = (22, 0, 0);
    for number in 0..WRITTEN {
        let (message, tried) = answer(number, &mut seed);
        fields += tried;
        match composer.write(&message).await {
            Ok(written) => check(&written.bytes, &message),
            // An address or an image's id that cannot stand in a mail.
            Err(error) => {
                assert!(
                    error.message.contains("address") || error.message.contains("content_id"),
                    "{error}"
                );
                refused += 1;
            }
        }
    }
    assert!(fields > 80_000, "{fields} fields");
    assert!(
        refused > 0 && refused < WRITTEN * 2 / 3,
        "{refused} refused"
    );
}

#[test]
fn through_a_real_server_exactly_our_headers_arrive_and_nobody_else_gets_a_mail() {
    if !peers::enabled() {
        return;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start(&dovecot);
    let channel = (connector_email::REGISTRATION.build)(
        config(dovecot.imap_port, postfix.smtp_port),
        context(),
    )
    .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut seed, mut sent) = (23, Vec::new());
    let mut number = 0;
    while sent.len() < SENT {
        let (message, _) = answer(number, &mut seed);
        number += 1;
        if message.to.address == "ada@customer.example"
            && runtime
                .block_on(channel.sender().unwrap().send(&message))
                .is_ok()
        {
            sent.push(message);
        }
    }
    let received = dovecot.wait_for_mails("ada", SENT);
    assert_eq!(received.len(), SENT);
    for mail in &received {
        let text = String::from_utf8_lossy(mail)
            .replace("\r\n", "\n")
            .replace('\n', "\r\n");
        let message = sent.iter().find(|message| text.contains(&message.id));
        check(text.as_bytes(), message.expect("one that was sent"));
    }
    assert_eq!(dovecot.wait_for_mails("bob", SENT).len(), SENT);
    assert!(dovecot.fetch_all("eve").is_empty(), "nobody wrote to eve");
}
