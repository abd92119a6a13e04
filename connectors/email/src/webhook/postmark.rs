//! Postmark, inbound webhook: one JSON object with the mail itself in `RawEmail` where that is
//! switched on, else with the fields made of it.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{Bytes, Error, InboundEvent, Result};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::parse::{Envelope, ParseSettings, parse_delivered};
use crate::webhook::rebuild::{self, File, Pieces, Text};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", bound(deserialize = "'de: 'a"))]
struct Inbound<'a> {
    /// Large ones are not copied unless they are used.
    #[serde(default, borrow)]
    raw_email: Option<&'a RawValue>,
    #[serde(default, borrow)]
    attachments: Option<&'a RawValue>,
    #[serde(default, borrow)]
    text_body: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    html_body: Option<Cow<'a, str>>,
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
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// Members that are other forms of what was read.
const KNOWN: [&str; 4] = ["FromName", "Bcc", "StrippedTextReply", "MessageStream"];

/// Reads a body.
pub(crate) fn read(body: &Bytes, settings: &ParseSettings) -> Result<InboundEvent> {
    let mut inbound: Inbound<'_> = serde_json::from_slice(body)
        .map_err(|error| Error::malformed(format!("the body is no mail of Postmark: {error}")))?;
    let mut envelope = Envelope {
        recipients: recipients(&inbound),
        ..Envelope::default()
    };
    let rest = std::mem::take(&mut inbound.rest);
    let raw: Option<String> = inbound
        .raw_email
        .and_then(|raw| serde_json::from_str(raw.get()).ok());
    let raw = match raw.filter(|raw| !raw.trim().is_empty()) {
        Some(raw) => Bytes::from(raw),
        None => {
            envelope.is_rebuilt = true;
            let missing = "the body as it was sent (switch on RawEmail)";
            envelope.defects.push(rebuild::defect(missing));
            pieces(inbound, &mut envelope)?.write()
        }
    };
    let mut event = parse_delivered(raw, envelope, settings);
    let rest = rest.into_iter().filter(|(key, _)| !KNOWN.contains(&&**key));
    event
        .extra
        .extend(super::extra_members("postmark", rest.collect()));
    Ok(event)
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

fn pieces(inbound: Inbound<'_>, envelope: &mut Envelope) -> Result<Pieces> {
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
    let text = |text: Option<Cow<'_, str>>| {
        let text = text.filter(|text| !text.is_empty())?;
        let bytes = Bytes::from(text.into_owned());
        let charset = None;
        Some(Text { bytes, charset })
    };
    pieces.text = text(inbound.text_body);
    pieces.html = text(inbound.html_body);
    let attachments = inbound.attachments.map_or("[]", RawValue::get);
    let attachments: Vec<Attachment<'_>> = serde_json::from_str(attachments).unwrap_or_else(|_| {
        let detail = "the attachments of the service could not be read";
        envelope
            .defects
            .push(connector_api::Defect::new("attachments_lost", detail));
        Vec::new()
    });
    for attachment in attachments {
        let encoded: String = attachment.data.split_whitespace().collect();
        pieces.files.push(File {
            name: attachment.name,
            content_type: attachment.content_type,
            content_id: attachment.content_id.filter(|id| !id.is_empty()),
            bytes: STANDARD.decode(encoded).unwrap_or_default().into(),
        });
    }
    Ok(pieces)
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
