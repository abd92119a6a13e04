//! Twilio SendGrid, Inbound Parse: a multipart form with the mail itself in `email` ("POST the raw,
//! full MIME message") or with the fields made of it.

use std::collections::HashMap;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{Error, InboundEvent, Result, WebhookRequest};
use serde::Deserialize;

use crate::parse::{Envelope, ParseSettings, parse_delivered};
use crate::webhook::form::{Field, Form};
use crate::webhook::rebuild::{self, File, Pieces, Text};

const SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
const TIMESTAMP: &str = "x-twilio-email-event-webhook-timestamp";

/// How old a signature may be, in seconds. Nothing says that SendGrid signs a repeated delivery
/// anew, it repeats for 72 hours, and what it gets a 401 for is lost. A replay is a duplicate.
pub(crate) const SIGNATURE_AGE_SECONDS_MAX: i64 = 73 * 3_600;

/// How far ahead of our clock a signature may be, in seconds.
const SIGNATURE_AHEAD_SECONDS_MAX: i64 = 300;

/// From which score SpamAssassin calls a mail spam by default.
const SPAM_SCORE_MIN: f64 = 5.0;

/// Checks the signature of a security policy: ECDSA over timestamp and raw body.
pub(crate) fn verify(request: &WebhookRequest, public_key: &[u8]) -> Result<()> {
    let header = |name: &str| {
        let value = request.header(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| Error::auth(format!("{name}: missing")))
    };
    let signature = header(SIGNATURE)?;
    let timestamp = header(TIMESTAMP)?;
    let signature = STANDARD
        .decode(signature.trim())
        .map_err(|_| Error::auth(format!("{SIGNATURE}: no base64")))?;
    let mut signed = digest::Context::new(&digest::SHA256);
    signed.update(timestamp.as_bytes());
    signed.update(&request.body);
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public_key)
        .verify_digest(&signed.finish(), &signature)
        .map_err(|_| Error::auth(format!("{SIGNATURE}: does not match")))?;
    let seconds: i64 = timestamp
        .trim()
        .parse()
        .map_err(|_| Error::auth(format!("{TIMESTAMP}: not seconds since 1970")))?;
    let age = request.received_at.as_second().saturating_sub(seconds);
    if !(-SIGNATURE_AHEAD_SECONDS_MAX..=SIGNATURE_AGE_SECONDS_MAX).contains(&age) {
        return Err(Error::auth(format!(
            "{TIMESTAMP}: {age} s old, at most {SIGNATURE_AGE_SECONDS_MAX} s are taken"
        )));
    }
    Ok(())
}

/// Reads a form. It is gone before the mail is read: there is no room for both.
pub(crate) fn read(form: Form, settings: &ParseSettings) -> Result<InboundEvent> {
    let mut envelope = envelope(&form);
    let extra = super::extra("sendgrid", &form, is_read);
    let score = form.text("spam_score").and_then(|it| it.parse().ok());
    let is_spam = score.is_some_and(|score: f64| score >= SPAM_SCORE_MIN);
    let raw = match form.bytes("email") {
        Some(raw) => raw.clone(),
        None => {
            let pieces = pieces(&form)?;
            envelope.is_rebuilt = true;
            envelope.defects.push(rebuild::defect(missing(&form)));
            pieces.write()
        }
    };
    drop(form);
    let mut event = parse_delivered(raw, envelope, settings);
    if event.provider_spam.is_none() && is_spam {
        event.provider_spam = Some("spam_score".to_owned());
    }
    event.extra.extend(extra);
    Ok(event)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GivenEnvelope {
    to: Vec<String>,
    from: Option<String>,
}

/// `SPF` and `dkim` say that some domain passed, not that it is the author's: they are kept beside
/// the event, and prove nothing.
fn envelope(form: &Form) -> Envelope {
    let given = form.text("envelope").unwrap_or_default();
    let given: GivenEnvelope = serde_json::from_str(given).unwrap_or_default();
    Envelope {
        recipients: given.to,
        null_sender: given.from.is_some_and(|from| from.trim().is_empty()),
        ..Envelope::default()
    }
}

/// Whether a field went into the mail.
fn is_read(field: &Field) -> bool {
    let name = field.name.as_str();
    matches!(
        name,
        "email" | "headers" | "text" | "html" | "from" | "to" | "cc" | "subject" | "charsets"
    ) || matches!(name, "attachment-info" | "content-ids" | "attachments")
}

fn missing(form: &Form) -> &'static str {
    match form.bytes("headers").is_some_and(|block| !block.is_empty()) {
        true => "the body as it was sent",
        false => "the headers, the body as it was sent",
    }
}

fn pieces(form: &Form) -> Result<Pieces> {
    let named = ["headers", "from", "text", "html", "subject"];
    if !named.iter().any(|name| form.field(name).is_some()) {
        return Err(Error::malformed(
            "the form has none of the fields of a mail",
        ));
    }
    let charsets = form.text("charsets").unwrap_or_default();
    let charsets: HashMap<String, String> = serde_json::from_str(charsets).unwrap_or_default();
    let mut pieces = Pieces::default();
    if let Some(block) = form.bytes("headers") {
        pieces.header_block(&[block, &b"\n\n"[..]].concat());
    }
    for name in ["From", "To", "Cc", "Subject"] {
        let key = name.to_lowercase();
        let value = form.bytes(&key);
        let value = value.map(|value| in_utf8(value, charsets.get(&key)));
        pieces.header_if_missing(name, value.as_deref().map(str::as_bytes));
    }
    let text = |name: &str| {
        let bytes = form.bytes(name).filter(|bytes| !bytes.is_empty())?.clone();
        let charset = charsets.get(name).cloned();
        Some(Text { bytes, charset })
    };
    pieces.text = text("text");
    pieces.html = text("html");
    pieces.files = files(form);
    Ok(pieces)
}

/// A header has no charset of its own, so the field is made UTF-8.
fn in_utf8(value: &[u8], charset: Option<&String>) -> String {
    crate::parse::decode_text(value, charset.map(String::as_str))
}

/// `attachment1` … with what `attachment-info` says of each, and `content-ids` of some.
fn files(form: &Form) -> Vec<File> {
    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Info {
        filename: Option<String>,
        name: Option<String>,
        r#type: Option<String>,
        #[serde(rename = "content-id")]
        content_id: Option<String>,
    }
    let infos = form.text("attachment-info").unwrap_or_default();
    let mut infos: HashMap<String, Info> = serde_json::from_str(infos).unwrap_or_default();
    let ids = form.text("content-ids").unwrap_or_default();
    let ids: HashMap<String, String> = serde_json::from_str(ids).unwrap_or_default();
    let files = form.fields.iter().filter(|field| {
        let number = field.name.strip_prefix("attachment");
        field.file_name.is_some()
            || number.is_some_and(|it| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit()))
    });
    let file = |field: &Field| {
        let info = infos.remove(&field.name).unwrap_or_default();
        let by_id = ids.iter().find(|(_, name)| **name == field.name);
        File {
            name: info.filename.or(info.name).or(field.file_name.clone()),
            content_type: info.r#type.or(field.content_type.clone()),
            content_id: info.content_id.or(by_id.map(|(id, _)| id.clone())),
            bytes: field.bytes.clone(),
        }
    };
    files.map(file).collect()
}

#[cfg(test)]
mod tests {
    use connector_api::Timestamp;

    use super::*;

    /// The vector of SendGrid's own libraries.
    #[test]
    fn the_signature_is_over_timestamp_and_raw_body() {
        let key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
        let signature = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=";
        let body = "[{\"email\":\"hello@world.com\",\"event\":\"dropped\",\"reason\":\"Bounced Address\",\"sg_event_id\":\"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA\",\"sg_message_id\":\"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0\",\"smtp-id\":\"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>\",\"timestamp\":1600112492}]\r\n";
        let request = |timestamp: &str, body: &str| WebhookRequest {
            headers: [(SIGNATURE, signature), (TIMESTAMP, timestamp)]
                .map(|(name, value)| (name.to_owned(), value.to_owned().into()))
                .into(),
            body: body.to_owned().into(),
            received_at: Timestamp::from_second(1_600_112_502).unwrap(),
            ..WebhookRequest::default()
        };
        let key = STANDARD.decode(key).unwrap();
        assert_eq!(verify(&request("1600112502", body), &key), Ok(()));
        for wrong in [
            request("1600112503", body),
            request("1600112502", body.trim_end()),
        ] {
            assert!(verify(&wrong, &key).is_err());
        }
    }
}
