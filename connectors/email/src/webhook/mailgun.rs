//! Mailgun, a route's `forward`: a form with the mail itself in `body-mime` where the URL ends in
//! `mime`, else with the fields made of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::{digest, hmac};
use connector_api::{Error, InboundEvent, Result, WebhookRequest};

use crate::parse::{Envelope, ParseSettings, parse_delivered};
use crate::webhook::config::SigningKey;
use crate::webhook::form::{Field, Form, Posted};
use crate::webhook::rebuild::{self, File, Pieces, Text};

/// How old a signature may be, in seconds: Mailgun repeats for 8 hours, and nothing says that it
/// signs a repeated delivery anew.
pub(crate) const SIGNATURE_AGE_SECONDS_MAX: i64 = 9 * 3_600;

/// How far ahead of our clock a signature may be, in seconds.
const SIGNATURE_AHEAD_SECONDS_MAX: i64 = 300;

/// Most tokens remembered: three a second for as long as a signature holds. About 8 MB.
const TOKENS_MAX: usize = 100_000;

/// Longest time, token or signature; Mailgun's tokens have 50 characters, its signatures 64.
const PROOF_BYTES_MAX: usize = 200;

/// What each token was used for. Mailgun signs a time and a token but not the mail beside them, so
/// whoever saw one request could put another mail into it: a token is good for one mail. The same
/// mail again is a repeated delivery, and a duplicate.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<Used>);

#[derive(Default)]
struct Used {
    mails: HashMap<[u8; 32], [u8; 32]>,
    /// Oldest first.
    order: VecDeque<[u8; 32]>,
}

impl Tokens {
    /// Checks the signature in the form, its age, and that its token came with no other mail.
    pub(crate) fn verify(&self, request: &WebhookRequest, keys: &[SigningKey]) -> Result<()> {
        let content_type = request.header("content-type").unwrap_or_default();
        let form = Posted::read(content_type, &request.body);
        let form = form.ok_or_else(|| Error::auth("the body is no form: it has no signature"))?;
        let field = |name: &str| {
            let value = form.text(name, PROOF_BYTES_MAX);
            value.ok_or_else(|| Error::auth(format!("{name}: missing, or too long")))
        };
        let (timestamp, token) = (field("timestamp")?, field("token")?);
        let signature = unhex(&field("signature")?);
        let signature = signature.ok_or_else(|| Error::auth("signature: no hexadecimal digits"))?;
        let signed = [timestamp.as_bytes(), token.as_bytes()].concat();
        let mut matches = false;
        for SigningKey(key) in keys {
            matches |= hmac::verify(key, &signed, &signature).is_ok();
        }
        if !matches {
            return Err(Error::auth("signature: does not match"));
        }
        // What is signed does not say where the time ends and the token begins, so its length is
        // fixed: ten digits until the year 2286.
        let seconds: Option<i64> = match timestamp.len() {
            10 => timestamp.parse().ok(),
            _ => None,
        };
        let seconds = seconds.ok_or_else(|| Error::auth("timestamp: not seconds since 1970"))?;
        let age = request.received_at.as_second().saturating_sub(seconds);
        if !(-SIGNATURE_AHEAD_SECONDS_MAX..=SIGNATURE_AGE_SECONDS_MAX).contains(&age) {
            return Err(Error::auth(format!(
                "timestamp: {age} s old, at most {SIGNATURE_AGE_SECONDS_MAX} s are taken"
            )));
        }
        self.bind(sha256(&signed), mail_digest(&form))
    }

    fn bind(&self, token: [u8; 32], mail: [u8; 32]) -> Result<()> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match used.mails.get(&token) {
            Some(known) if *known == mail => return Ok(()),
            Some(_) => return Err(Error::auth("token: it came with another mail before")),
            None => {}
        }
        if used.order.len() >= TOKENS_MAX
            && let Some(oldest) = used.order.pop_front()
        {
            used.mails.remove(&oldest);
        }
        used.mails.insert(token, mail);
        used.order.push_back(token);
        Ok(())
    }
}

/// Of all fields, whatever their order and however the form was written. Each by its own digest: no
/// value is decoded as a whole before it is known who sent it.
fn mail_digest(form: &Posted<'_>) -> [u8; 32] {
    let mut fields: Vec<(&str, [u8; 32])> = form
        .fields
        .iter()
        .map(|(name, value)| {
            let mut context = digest::Context::new(&digest::SHA256);
            for piece in value.pieces() {
                context.update(&piece);
            }
            (name.as_str(), thirty_two(context.finish().as_ref()))
        })
        .collect();
    fields.sort_unstable();
    let mut context = digest::Context::new(&digest::SHA256);
    for (name, value) in fields {
        for part in [name.as_bytes(), &value] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
    }
    thirty_two(context.finish().as_ref())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    thirty_two(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn thirty_two(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Reads a form. It is gone before the mail is read: there is no room for both.
pub(crate) fn read(form: Form, settings: &ParseSettings) -> Result<InboundEvent> {
    let extra = super::extra("mailgun", &form, is_read);
    let recipients = form.text("recipient").unwrap_or_default().split(',');
    let sender = form.bytes("sender");
    let mut envelope = Envelope {
        recipients: recipients.map(|it| it.trim().to_owned()).collect(),
        null_sender: sender.is_some_and(|sender| sender.trim_ascii().is_empty()),
        ..Envelope::default()
    };
    let raw = match form.bytes("body-mime") {
        Some(raw) => raw.clone(),
        None => {
            let pieces = pieces(&form)?;
            envelope.is_rebuilt = true;
            let missing = "the body as it was sent (let the route's URL end in mime)";
            envelope.defects.push(rebuild::defect(missing));
            pieces.write()
        }
    };
    drop(form);
    let mut event = parse_delivered(raw, envelope, settings);
    event.extra.extend(extra);
    Ok(event)
}

/// Whether a field went into the mail, or is another form of what did.
fn is_read(field: &Field) -> bool {
    let is_header = field.name.starts_with(|c: char| c.is_ascii_uppercase());
    is_header
        || field.name.starts_with("stripped-")
        || matches!(
            field.name.as_str(),
            "body-mime" | "body-plain" | "body-html" | "message-headers" | "content-id-map"
        )
        || matches!(
            field.name.as_str(),
            "from" | "subject" | "timestamp" | "token" | "signature" | "attachment-count"
        )
}

fn pieces(form: &Form) -> Result<Pieces> {
    let named = ["message-headers", "from", "body-plain", "body-html"];
    if !named.iter().any(|name| form.field(name).is_some()) {
        return Err(Error::malformed(
            "the form has none of the fields of a mail",
        ));
    }
    let mut pieces = Pieces::default();
    let headers = form.text("message-headers").unwrap_or_default();
    let headers: Vec<(String, String)> = serde_json::from_str(headers).unwrap_or_default();
    for (name, value) in &headers {
        pieces.header(name, value.as_bytes());
    }
    for (name, field) in [
        ("From", "from"),
        ("To", "recipient"),
        ("Subject", "subject"),
    ] {
        pieces.header_if_missing(name, form.bytes(field).map(|bytes| bytes.as_ref()));
    }
    let text = |name: &str| {
        let bytes = form.bytes(name).filter(|bytes| !bytes.is_empty())?.clone();
        let charset = None;
        Some(Text { bytes, charset })
    };
    pieces.text = text("body-plain");
    pieces.html = text("body-html");
    let ids = form.text("content-id-map").unwrap_or_default();
    let ids: BTreeMap<String, String> = serde_json::from_str(ids).unwrap_or_default();
    let file = |field: &Field| {
        let id = ids.iter().find(|(_, name)| **name == field.name);
        File {
            name: field.file_name.clone(),
            content_type: field.content_type.clone(),
            content_id: id.map(|(id, _)| id.clone()),
            bytes: field.bytes.clone(),
        }
    };
    let files = form.fields.iter();
    let files = files.filter(|field| field.file_name.is_some() || is_attachment(&field.name));
    pieces.files = files.map(file).collect();
    Ok(pieces)
}

/// `attachment-1`, but not `attachment-count`.
fn is_attachment(name: &str) -> bool {
    let number = name.strip_prefix("attachment-");
    number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
}
