//! One outbound message as one mail. Everything derives from the message alone, so that every
//! attempt is the same bytes with the same Message-ID, and a receiver can drop a repetition.

use std::time::SystemTime;

use connector_api::{Error, Namespace, OutboundMessage, Result};
use lettre::Address;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Body, Mailbox, Message, MultiPart, MultiPartKind, SinglePart};

use crate::config::Settings;

/// References kept at either end: the first names the thread, the last are its nearest mails.
const REFERENCES_LAST: usize = 20;

/// Longest id repeated in References, in bytes; a header line may not pass 998.
const REFERENCE_BYTES_MAX: usize = 500;

/// Longest subject sent, in characters.
const SUBJECT_CHARS_MAX: usize = 500;

/// A finished mail.
#[derive(Debug)]
pub(crate) struct Composed {
    /// Without `<>`.
    pub(crate) message_id: String,
    /// `None` is the null sender: nobody bounces to an automatic mail (RFC 3834, section 3.3).
    pub(crate) envelope_from: Option<Address>,
    pub(crate) recipient: Address,
    pub(crate) bytes: Vec<u8>,
}

/// Builds the mail, or says why the message cannot be one.
pub(crate) async fn compose(message: &OutboundMessage, settings: &Settings) -> Result<Composed> {
    let own: Address = settings
        .address
        .parse()
        .map_err(|_| Error::config("address is no mail address"))?;
    let recipient = recipient(message)?;
    let message_id = message_id(message, own.domain())?;
    let to_name = message.to.name.as_deref().and_then(clean_name);
    let from_name = settings.name.as_deref().and_then(clean_name);
    let mut builder = Message::builder()
        .date(SystemTime::from(message.accepted_at))
        .from(Mailbox::new(from_name.clone(), own.clone()))
        .to(Mailbox::new(to_name, recipient.clone()))
        .message_id(Some(format!("<{message_id}>")));
    if settings.plus_address {
        let address = plus_address(&own, &message.reply_token)?;
        builder = builder.reply_to(Mailbox::new(from_name, address));
    }
    if let Some(subject) = message.subject.as_deref() {
        let subject: String = one_line(subject).chars().take(SUBJECT_CHARS_MAX).collect();
        builder = builder.subject(subject);
    }
    let references = references(&message.references);
    if let Some(nearest) = references.last() {
        builder = builder
            .in_reply_to(nearest.clone())
            .references(references.join(" "));
    }
    if message.automatic {
        for (name, value) in [
            ("Auto-Submitted", "auto-replied"),
            ("X-Auto-Response-Suppress", "All"),
            ("Precedence", "auto_reply"),
        ] {
            let name = HeaderName::new_from_ascii_str(name);
            builder = builder.raw_header(HeaderValue::new(name, value.to_owned()));
        }
    }
    let built = match content(message).await? {
        Content::Single(part) => builder.singlepart(part),
        Content::Multi(part) => builder.multipart(part),
    };
    let mail = built.map_err(|error| Error::rejected(format!("cannot write the mail: {error}")))?;
    Ok(Composed {
        message_id,
        envelope_from: (!message.automatic).then_some(own),
        recipient,
        bytes: mail.formatted(),
    })
}

fn recipient(message: &OutboundMessage) -> Result<Address> {
    if message.to.namespace != Namespace::email() {
        return Err(Error::rejected("the recipient has no mail address"));
    }
    let text = &message.to.address;
    let is_clean = !text.contains(|c: char| c.is_control() || c.is_whitespace());
    let address = is_clean.then(|| text.parse::<Address>().ok()).flatten();
    address.ok_or_else(|| Error::rejected("the recipient's mail address is not valid"))
}

/// `<token>.<message id>@<our domain>`: the token brings the answer back, the id makes it unique.
fn message_id(message: &OutboundMessage, domain: &str) -> Result<String> {
    let local = format!("{}.{}", message.reply_token, message.id);
    if !is_token(&local) {
        return Err(Error::rejected(
            "the message's id or token cannot stand in a Message-ID",
        ));
    }
    Ok(format!("{local}@{domain}"))
}

fn plus_address(own: &Address, token: &str) -> Result<Address> {
    let local = own.user().split('+').next().unwrap_or_default();
    Address::new(format!("{local}+{token}"), own.domain())
        .map_err(|error| Error::rejected(format!("cannot write the reply address: {error}")))
}

/// What may stand in an id without quoting.
fn is_token(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= 200 && text.chars().all(is_allowed)
}

/// The first and the last references as `<id>`; ids that cannot stand in a header are left out.
fn references(all: &[String]) -> Vec<String> {
    let is_id = |id: &&String| {
        let is_graphic = id.bytes().all(|byte| byte.is_ascii_graphic());
        is_graphic
            && id.contains('@')
            && id.len() <= REFERENCE_BYTES_MAX
            && !id.contains(['<', '>', ','])
    };
    let ids: Vec<String> = all
        .iter()
        .filter(is_id)
        .map(|id| format!("<{id}>"))
        .collect();
    match ids.len().checked_sub(REFERENCES_LAST + 1) {
        Some(middle) if middle > 0 => {
            let first = ids.iter().take(1);
            first.chain(ids.iter().skip(1 + middle)).cloned().collect()
        }
        _ => ids,
    }
}

enum Content {
    Single(SinglePart),
    Multi(MultiPart),
}

async fn content(message: &OutboundMessage) -> Result<Content> {
    let plain = text_part(ContentType::TEXT_PLAIN, &message.text)?;
    let body = match &message.html {
        Some(html) => {
            let html = text_part(ContentType::TEXT_HTML, html)?;
            let alternative = multi(MultiPartKind::Alternative, message, 1);
            Content::Multi(alternative.singlepart(plain).singlepart(html))
        }
        None => Content::Single(plain),
    };
    if message.attachments.is_empty() {
        return Ok(body);
    }
    let mixed = multi(MultiPartKind::Mixed, message, 2);
    let mut mixed = match body {
        Content::Single(part) => mixed.singlepart(part),
        Content::Multi(part) => mixed.multipart(part),
    };
    for attachment in &message.attachments {
        let content_type = ContentType::parse(&one_line(&attachment.content_type));
        let content_type = content_type.unwrap_or_else(|_| octet_stream());
        let bytes = attachment
            .content
            .whole(attachment.size_bytes)
            .await?
            .to_vec();
        let body = Body::new_with_encoding(bytes, ContentTransferEncoding::Base64)
            .map_err(|_| Error::rejected("cannot encode an attachment"))?;
        let name = clean_name(&attachment.name).unwrap_or_else(|| "attachment".to_owned());
        mixed = mixed.singlepart(Attachment::new(name).body(body, content_type));
    }
    Ok(Content::Multi(mixed))
}

/// A multipart whose boundary is the same on every attempt. Quoted-printable and base64 contain
/// no `=_`, so no content can contain it.
fn multi(kind: MultiPartKind, message: &OutboundMessage, level: u8) -> MultiPart {
    let id: String = message
        .id
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(40)
        .collect();
    MultiPart::builder()
        .kind(kind)
        .boundary(format!("=_{level}_{id}"))
        .build()
}

fn text_part(content_type: ContentType, text: &str) -> Result<SinglePart> {
    let text = text.replace('\0', "");
    let body = Body::new_with_encoding(text, ContentTransferEncoding::QuotedPrintable)
        .map_err(|_| Error::rejected("cannot encode the text"))?;
    Ok(SinglePart::builder().header(content_type).body(body))
}

fn octet_stream() -> ContentType {
    ContentType::parse("application/octet-stream").expect("a literal that is a content type")
}

/// A name for a header: one line, nothing invisible; `None` when nothing is left.
fn clean_name(text: &str) -> Option<String> {
    let name: String = one_line(text).chars().take(200).collect();
    (!name.is_empty()).then_some(name)
}

/// Turns every line break and control character into a space: no header can be injected.
fn one_line(text: &str) -> String {
    let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.split(is_break)
        .map(str::trim)
        .filter(|piece| !piece.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
