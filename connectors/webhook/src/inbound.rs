//! Verified body -> events. A bad event in a batch spoils only itself: its result says what is
//! wrong and where, and its siblings are kept.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use connector_api::{
    Attachment, AttachmentBody, Automatic, DedupeKey, Defect, DeliveryStage, Error, Event,
    Evidence, IdentityClaim, InboundEvent, InboundMessage, MessageSender, Method, Namespace,
    Result, ThreadHints, WebhookOutcome, WebhookReply,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::wire::{Fields, JSON_DEPTH_MAX, is_too_deep};

/// Most events in one request: a batch is one unit of durability, and must stay below the
/// daemon's commit of 1,000 messages.
const EVENTS_MAX: usize = 500;

/// Most attachments on one message.
const ATTACHMENTS_MAX: usize = 50;

/// Bytes of all attachments of one event together, after decoding.
const ATTACHMENT_BYTES_MAX: usize = 20 * 1024 * 1024;

pub(crate) fn parse(namespace: &Namespace, body: &[u8]) -> Result<WebhookOutcome> {
    let results = read(namespace, body)?;
    if let Some(Err(first)) = results.first()
        && results.iter().all(Result::is_err)
    {
        return Err(first.clone());
    }
    let reply = reply(&results);
    let events = results.into_iter().flatten().collect();
    Ok(WebhookOutcome::Events { events, reply })
}

/// The same where nobody reads results: all events, or the first error.
pub(crate) fn parse_all(namespace: &Namespace, body: &[u8]) -> Result<Vec<InboundEvent>> {
    read(namespace, body)?.into_iter().collect()
}

fn read(namespace: &Namespace, body: &[u8]) -> Result<Vec<Result<InboundEvent>>> {
    if is_too_deep(body) {
        let what = format!("body: nested deeper than {JSON_DEPTH_MAX} levels");
        return Err(Error::malformed(what));
    }
    Ok(match split(body)? {
        Body::One(event) => vec![parse_event(namespace, String::new(), event)],
        Body::Batch(events) => events
            .iter()
            .enumerate()
            .map(|(index, event)| parse_event(namespace, format!("events[{index}]."), event.get()))
            .collect(),
    })
}

enum Body<'a> {
    One(&'a str),
    Batch(Vec<&'a RawValue>),
}

/// Only the envelope is read here; each event stays text, so that one event's bad escape or shape
/// cannot spoil the others.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    events: Option<Vec<&'a RawValue>>,
}

fn split(body: &[u8]) -> Result<Body<'_>> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Error::malformed(format!("body: not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    if !text.trim_start().starts_with('{') {
        return Err(Error::malformed("body: expected an object"));
    }
    if !may_be_batch(text) {
        return Ok(Body::One(text));
    }
    let envelope: Envelope = serde_json::from_str(text).map_err(|error| match error.is_data() {
        true => Error::malformed("events: expected an array"),
        false => not_json("", &error),
    })?;
    let Some(events) = envelope.events else {
        return Ok(Body::One(text));
    };
    if events.len() > EVENTS_MAX {
        let found = events.len();
        return Err(Error::too_large(format!(
            "events: {found} events, at most {EVENTS_MAX} are taken in one request"
        )));
    }
    Ok(Body::Batch(events))
}

/// Whether a key `events` can be in there, also one that is spelled with escapes: a single event is
/// then read once and not twice.
fn may_be_batch(text: &str) -> bool {
    text.contains("\"events\"") || text.contains("\\u")
}

fn parse_event(namespace: &Namespace, place: String, text: &str) -> Result<InboundEvent> {
    let map: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| match error.is_data() {
            true => Error::malformed(format!(
                "{}: expected an object",
                place.trim_end_matches('.')
            )),
            false => not_json(&place, &error),
        })?;
    let mut fields = Fields::new(place, map);
    let kind = fields.required_word("type")?;
    let id = fields.required_id("id")?;
    let dedupe_key = format!("{kind}:{id}");
    let mut defects = Vec::new();
    let mut extra = Map::new();
    let event = match kind.as_str() {
        "message" => {
            let message = message(
                namespace,
                &dedupe_key,
                &mut fields,
                &mut defects,
                &mut extra,
            )?;
            Event::Message(Box::new(message))
        }
        "edit" => Event::Edit {
            target: target_message(&mut fields)?,
            text: fields
                .text("text")?
                .ok_or_else(|| fields.error("text", "missing"))?,
            html: fields.text("html")?,
        },
        "delete" => Event::Delete {
            target: target_message(&mut fields)?,
        },
        "reaction" => Event::Reaction {
            target: target_message(&mut fields)?,
            emoji: fields.required_word("emoji")?,
            removed: fields.flag("removed")?,
            from: None,
        },
        "receipt" => Event::Receipt {
            // A message we sent: our id, or the id that the receiver answered with.
            target: fields.required_id("target")?,
            stage: stage(&mut fields)?,
            reason: fields.text("reason")?,
            recipient: None,
        },
        _ => return Err(fields.error("type", "none of message, edit, delete, reaction, receipt")),
    };
    let mut inbound = InboundEvent::new(DedupeKey::new(dedupe_key), event);
    inbound.sent_at = fields.time("sent_at")?;
    inbound.automatic = fields.flag("automatic")?.then_some(Automatic::Generated);
    // The sending side's own filter; only a yes says anything.
    inbound.provider_spam = fields.flag("spam")?.then(|| "sender".to_owned());
    inbound.defects = defects;
    inbound.extra = fields.rest();
    inbound.extra.append(&mut extra);
    Ok(inbound)
}

fn message(
    namespace: &Namespace,
    dedupe_key: &str,
    fields: &mut Fields,
    defects: &mut Vec<Defect>,
    extra: &mut Map<String, Value>,
) -> Result<InboundMessage> {
    let mut from = fields
        .object("from")?
        .ok_or_else(|| fields.error("from", "missing"))?;
    let sender = sender(namespace, &mut from, defects)?;
    let left = from.rest();
    if !left.is_empty() {
        extra.insert("from".to_owned(), Value::Object(left));
    }
    let text = fields.text("text")?;
    let html = fields.text("html")?;
    let attachments = attachments(fields, extra)?;
    if text.is_none() && html.is_none() && attachments.is_empty() {
        return Err(fields.error("text", "missing, and there is no html and no attachment"));
    }
    let reply_to = fields.word("reply_to")?;
    Ok(InboundMessage {
        from: sender,
        participants: Vec::new(),
        subject: fields.text("subject")?,
        text: text.unwrap_or_default(),
        html,
        thread: ThreadHints {
            native: fields.id("thread")?,
            message_id: Some(dedupe_key.to_owned()),
            // An earlier message of theirs, by its key; or an answer of ours, by its id or theirs
            // for it. Ids of theirs bear the prefix, so they cannot be taken for ours.
            references: reply_to
                .into_iter()
                .flat_map(|id| [format!("message:{id}"), id])
                .collect(),
            ..ThreadHints::default()
        },
        attachments,
    })
}

/// The signature proves the sending side's own id for the customer. What that side says about
/// mail and phone is a claim, which the daemon believes where the channel `vouches` for it.
fn sender(
    namespace: &Namespace,
    from: &mut Fields,
    defects: &mut Vec<Defect>,
) -> Result<MessageSender> {
    let claim = |namespace, address, evidence| IdentityClaim {
        namespace,
        address,
        evidence,
    };
    let id = from.required_id("id")?;
    let mut identities = vec![claim(
        namespace.clone(),
        id,
        Evidence::Verified(Method::Signed),
    )];
    if let Some(given) = from.word("email")? {
        match email_address(&given) {
            Some(address) => identities.push(claim(Namespace::email(), address, Evidence::Claimed)),
            None => {
                defects.push(Defect::new(
                    "email_unreadable",
                    "from.email is no mail address",
                ));
                from.put_back("email", given);
            }
        }
    }
    if let Some(given) = from.word("phone")? {
        match phone_number(&given) {
            Some(address) => identities.push(claim(Namespace::phone(), address, Evidence::Claimed)),
            None => {
                defects.push(Defect::new(
                    "phone_unreadable",
                    "from.phone is no international number",
                ));
                from.put_back("phone", given);
            }
        }
    }
    Ok(MessageSender {
        identities,
        name: from.word("name")?,
    })
}

fn email_address(given: &str) -> Option<String> {
    let (local, domain) = given.trim().rsplit_once('@')?;
    let readable = |part: &str| {
        !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || "<>,;\"".contains(c))
    };
    (readable(local) && readable(domain)).then(|| format!("{local}@{domain}").to_lowercase())
}

/// E.164: `+`, a country code, at most 15 digits. A national number has no meaning without its
/// country, so it is not guessed at.
fn phone_number(given: &str) -> Option<String> {
    let bare: String = given
        .chars()
        .filter(|c| !matches!(c, ' ' | '\u{a0}' | '-' | '.' | '/' | '(' | ')'))
        .collect();
    let digits = bare.strip_prefix('+').or_else(|| bare.strip_prefix("00"))?;
    let plausible = (7..=15).contains(&digits.len())
        && digits.bytes().all(|c| c.is_ascii_digit())
        && !digits.starts_with('0');
    plausible.then(|| format!("+{digits}"))
}

fn attachments(fields: &mut Fields, extra: &mut Map<String, Value>) -> Result<Vec<Attachment>> {
    let mut attachments = Vec::new();
    let mut left = Vec::new();
    let mut room = ATTACHMENT_BYTES_MAX;
    for mut item in fields.objects("attachments", ATTACHMENTS_MAX)? {
        attachments.push(attachment(&mut item, &mut room)?);
        left.push(Value::Object(item.rest()));
    }
    if left.iter().any(|item| item != &json!({})) {
        extra.insert("attachments".to_owned(), Value::Array(left));
    }
    Ok(attachments)
}

fn attachment(item: &mut Fields, room: &mut usize) -> Result<Attachment> {
    let (size_bytes, body) = match (item.text("base64")?, item.text("url")?) {
        (Some(encoded), None) => {
            let bytes = STANDARD
                .decode(encoded)
                .map_err(|_| item.error("base64", "not base64"))?;
            let Some(rest) = room.checked_sub(bytes.len()) else {
                let what = format!("attachments larger than {ATTACHMENT_BYTES_MAX} bytes together");
                return Err(Error::too_large(item.error("base64", &what).message));
            };
            *room = rest;
            (
                Some(bytes.len() as u64),
                AttachmentBody::Bytes(bytes.into()),
            )
        }
        (None, Some(url)) if url.starts_with("https://") || url.starts_with("http://") => {
            (None, AttachmentBody::Reference { reference: url })
        }
        (None, Some(_)) => return Err(item.error("url", "must start with https:// or http://")),
        (Some(_), Some(_)) => return Err(item.error("url", "given together with base64")),
        (None, None) => return Err(item.error("url", "missing, and there is no base64")),
    };
    Ok(Attachment {
        name: item.text("name")?,
        content_type: item
            .word("content_type")?
            .unwrap_or_else(|| "application/octet-stream".to_owned()),
        size_bytes,
        content_id: None,
        inline: false,
        body,
    })
}

/// The sending side names a message by its own id; events name it by its key.
fn target_message(fields: &mut Fields) -> Result<String> {
    Ok(format!("message:{}", fields.required_id("target")?))
}

fn stage(fields: &mut Fields) -> Result<DeliveryStage> {
    match fields.required_word("stage")?.as_str() {
        "accepted" => Ok(DeliveryStage::Accepted),
        "delivered" => Ok(DeliveryStage::Delivered),
        "read" => Ok(DeliveryStage::Read),
        "failed" => Ok(DeliveryStage::Failed),
        _ => Err(fields.error("stage", "none of accepted, delivered, read, failed")),
    }
}

fn reply(results: &[Result<InboundEvent>]) -> WebhookReply {
    let results: Vec<Value> = results
        .iter()
        .map(|result| match result {
            Ok(event) => json!({ "dedupe_key": event.dedupe_key, "error": null }),
            Err(error) => json!({ "dedupe_key": null, "error": error.message }),
        })
        .collect();
    WebhookReply::json(&json!({ "results": results }))
}

/// A syntax error's text has a line and a column and no content.
fn not_json(place: &str, error: &serde_json::Error) -> Error {
    let place = match place {
        "" => "body",
        place => place.trim_end_matches('.'),
    };
    Error::malformed(format!("{place}: not JSON: {error}"))
}

#[cfg(test)]
mod tests;
