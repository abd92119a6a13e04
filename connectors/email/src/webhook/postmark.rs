//! Postmark, inbound webhook: one JSON object with the mail itself in `RawEmail` where that is
//! switched on, else with the fields made of it.

use bytes::BytesMut;
use connector_api::{Bytes, Error, InboundEvent, Result};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::parse::{Envelope, ParseSettings, parse_delivered};
use crate::webhook::in_place::{Place, cut, place, unbase64, unquote};
use crate::webhook::rebuild::{self, File, Pieces, Text};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", bound(deserialize = "'de: 'a"))]
struct Inbound<'a> {
    // What may be large stays in the body until it is read there.
    #[serde(default, borrow)]
    raw_email: Option<&'a RawValue>,
    #[serde(default, borrow)]
    attachments: Option<&'a RawValue>,
    #[serde(default, borrow)]
    text_body: Option<&'a RawValue>,
    #[serde(default, borrow)]
    html_body: Option<&'a RawValue>,
    /// The text once more.
    #[serde(default, rename = "StrippedTextReply")]
    _stripped: IgnoredAny,
    #[serde(default)]
    headers: Vec<Header>,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    from_full: Option<Person>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    to_full: Vec<Person>,
    #[serde(default)]
    cc: Option<String>,
    #[serde(default)]
    cc_full: Vec<Person>,
    #[serde(default)]
    bcc_full: Vec<Person>,
    #[serde(default)]
    reply_to: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    date: Option<String>,
    #[serde(default)]
    original_recipient: Option<String>,
    #[serde(default)]
    mailbox_hash: Option<String>,
    /// Among them `MessageID`, Postmark's own, which is not the mail's.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Header {
    name: String,
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Person {
    email: String,
    name: String,
    mailbox_hash: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Attachment<'a> {
    name: Option<String>,
    content_type: Option<String>,
    #[serde(rename = "ContentID")]
    content_id: Option<String>,
    /// The file in base64. Postmark's own trial posts it as `data`.
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Members that are other forms of what was read.
const KNOWN: [&str; 3] = ["FromName", "Bcc", "MessageStream"];

/// Above that length a value is not looked at for blanks, in bytes.
const BLANK_BYTES_MAX: usize = 100;

/// What a long value of the body is.
enum Long {
    Raw,
    Text,
    Html,
    File(File),
}

/// Reads a body.
pub(crate) fn read(body: Bytes, settings: &ParseSettings) -> Result<InboundEvent> {
    let (mut pieces, mut envelope, rest, places) = taken_apart(&body)?;
    let mut raw = None;
    for (what, mut value) in cut(body, places) {
        unquote(&mut value);
        match what {
            Long::Raw => raw = Some(value.freeze()),
            Long::Text => pieces.text = text(value),
            Long::Html => pieces.html = text(value),
            Long::File(file) => {
                unbase64(&mut value);
                let bytes = value.freeze();
                pieces.files.push(File { bytes, ..file });
            }
        }
    }
    let raw = match raw {
        Some(raw) => raw,
        None => {
            envelope.is_rebuilt = true;
            let missing = "the body as it was sent (switch on RawEmail)";
            envelope.defects.push(rebuild::defect(missing));
            pieces.write()
        }
    };
    let mut event = parse_delivered(raw, envelope, settings);
    event.extra.extend(super::extra_members("postmark", rest));
    Ok(event)
}

type Apart = (Pieces, Envelope, Map<String, Value>, Vec<Place<Long>>);

/// All that is short, and where what is long stands: the mail itself, or texts and files.
fn taken_apart(body: &Bytes) -> Result<Apart> {
    let mut inbound: Inbound<'_> = serde_json::from_slice(body)
        .map_err(|error| Error::malformed(format!("the body is no mail of Postmark: {error}")))?;
    let mut envelope = Envelope {
        recipients: recipients(&inbound),
        ..Envelope::default()
    };
    let mut rest = std::mem::take(&mut inbound.rest);
    rest.retain(|key, _| !KNOWN.contains(&key.as_str()));
    if let Some(raw) = inbound.raw_email.filter(|raw| is_said(raw)) {
        let places = vec![place(body, Long::Raw, raw)];
        return Ok((Pieces::default(), envelope, rest, places));
    }
    let texts = [
        (Long::Text, inbound.text_body),
        (Long::Html, inbound.html_body),
    ];
    let mut places: Vec<Place<Long>> = texts
        .into_iter()
        .filter_map(|(what, value)| Some(place(body, what, value?)))
        .collect();
    places.extend(files(body, inbound.attachments, &mut envelope));
    Ok((headers(inbound)?, envelope, rest, places))
}

/// Whether a value is a string with more than blanks in it.
fn is_said(value: &RawValue) -> bool {
    let value = value.get();
    let short = || serde_json::from_str::<String>(value).unwrap_or_default();
    value.len() > BLANK_BYTES_MAX || !short().trim().is_empty()
}

fn text(value: BytesMut) -> Option<Text> {
    let bytes = value.freeze();
    let charset = None;
    (!bytes.is_empty()).then_some(Text { bytes, charset })
}

fn recipients(inbound: &Inbound<'_>) -> Vec<String> {
    let people = [&inbound.to_full, &inbound.cc_full, &inbound.bcc_full];
    let hashes = people.into_iter().flatten().map(|it| &it.mailbox_hash);
    [&inbound.original_recipient, &inbound.mailbox_hash]
        .into_iter()
        .flatten()
        .chain(hashes)
        .filter(|text| !text.is_empty())
        .cloned()
        .collect()
}

fn headers(inbound: Inbound<'_>) -> Result<Pieces> {
    let is_mail = inbound.from_full.is_some()
        || inbound.from.is_some()
        || !inbound.headers.is_empty()
        || inbound.text_body.is_some();
    if !is_mail {
        return Err(Error::malformed("the object has no member of a mail"));
    }
    let mut pieces = Pieces::default();
    for header in &inbound.headers {
        pieces.header(&header.name, header.value.as_bytes());
    }
    let from = inbound.from_full.iter().map(Person::shown).next();
    let list = |people: &[Person], text: Option<String>| match people {
        [] => text,
        people => {
            let people: Vec<String> = people.iter().map(Person::shown).collect();
            Some(people.join(", "))
        }
    };
    for (name, value) in [
        ("From", from.or(inbound.from)),
        ("To", list(&inbound.to_full, inbound.to)),
        ("Cc", list(&inbound.cc_full, inbound.cc)),
        ("Reply-To", inbound.reply_to),
        ("Subject", inbound.subject),
        ("Date", inbound.date),
    ] {
        pieces.header_if_missing(name, value.as_deref().map(str::as_bytes));
    }
    Ok(pieces)
}

fn files(
    body: &Bytes,
    attachments: Option<&RawValue>,
    envelope: &mut Envelope,
) -> Vec<Place<Long>> {
    let attachments = attachments.map_or("[]", RawValue::get);
    let attachments: Vec<Attachment<'_>> = serde_json::from_str(attachments).unwrap_or_else(|_| {
        let detail = "the attachments of the service could not be read";
        envelope
            .defects
            .push(connector_api::Defect::new("attachments_lost", detail));
        Vec::new()
    });
    let file = |one: Attachment<'_>| {
        let said = [one.content, one.data].into_iter().flatten();
        let content = said.into_iter().find(|value| is_said(value));
        let file = File {
            name: one.name,
            content_type: one.content_type,
            content_id: one.content_id.filter(|id| !id.is_empty()),
            bytes: Bytes::new(),
        };
        match content {
            Some(content) => place(body, Long::File(file), content),
            // An empty file is a file, too.
            None => (Long::File(file), 0..0),
        }
    };
    attachments.into_iter().map(file).collect()
}

impl Person {
    /// As a header shows it.
    fn shown(&self) -> String {
        let name: String = self.name.chars().filter(|c| !c.is_control()).collect();
        let email: String = self
            .email
            .chars()
            .filter(|c| !c.is_control() && !matches!(c, '<' | '>' | ','))
            .collect();
        match name.trim() {
            "" => email,
            name => {
                let name = name.replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"{name}\" <{email}>")
            }
        }
    }
}
