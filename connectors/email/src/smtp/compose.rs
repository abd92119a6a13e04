//! One outbound message as one mail. Everything derives from the message alone, so that every
//! attempt is the same bytes with the same Message-ID, and a receiver can drop a repetition.

mod parts;

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{Error, Namespace, OutboundMessage, Recipient, Result};
use lettre::Address;
use lettre::message::header::{self, HeaderName, HeaderValue, Headers};
use lettre::message::{Mailbox, Mailboxes};

use crate::config::Settings;
use crate::smtp::RECIPIENTS_MAX;
use crate::smtp::pieces::Pieces;
use crate::smtp::relay;

/// References kept at either end: the first names the thread, the last are its nearest mails.
const REFERENCES_LAST: usize = 20;

/// Longest id repeated in References, in bytes; a header line may not pass 998.
const REFERENCE_BYTES_MAX: usize = 500;

/// Longest subject sent, in characters.
const SUBJECT_CHARS_MAX: usize = 500;

/// Bytes in an encoded word: it has at most 75 characters (RFC 2047, section 2), of which base64
/// has 60.
const ENCODED_WORD_BYTES_MAX: usize = 45;

/// Our id once more, under a name that nobody else has a reason to change; `parse::dsn` reads it.
const OWN_ID_HEADER: &str = "X-Switchboard-ID";

/// A mail ready to be written. Its texts are here; its files are read as they are sent.
#[derive(Debug)]
pub(crate) struct Composed {
    /// Without `<>`.
    pub(crate) message_id: String,
    /// Our address.
    pub(crate) own: Address,
    /// Everybody once, whom it answers first. Who gets a blind copy stands nowhere else.
    pub(crate) recipients: Vec<Address>,
    /// Where each stands among the message's recipients, counted from 1.
    pub(crate) places: Vec<usize>,
    pub(crate) pieces: Pieces,
    /// Whether an address in it is outside ASCII (SMTPUTF8, RFC 6531). The rest never is: texts
    /// are quoted-printable and files base64, so nothing here needs 8BITMIME.
    pub(crate) is_international: bool,
}

/// Builds the mail, or says why the message cannot be one.
pub(crate) fn compose(message: &OutboundMessage, settings: &Settings) -> Result<Composed> {
    let own: Address = settings
        .address
        .parse()
        .map_err(|_| Error::config("address is no mail address"))?;
    let (recipients, places) = recipients(message)?;
    let message_id = message_id(message, own.domain())?;
    let headers = headers(message, settings, &own, &message_id)?;
    let mut pieces = Pieces::default();
    pieces.text(headers.to_string());
    let is_international = !pieces.is_ascii() || recipients.iter().any(|to| !is_ascii(to));
    parts::write(message, &mut pieces)?;
    Ok(Composed {
        message_id,
        own,
        recipients,
        places,
        pieces,
        is_international,
    })
}

fn is_ascii(address: &Address) -> bool {
    let text: &str = address.as_ref();
    text.is_ascii()
}

fn headers(
    message: &OutboundMessage,
    settings: &Settings,
    own: &Address,
    message_id: &str,
) -> Result<Headers> {
    let from_name = settings.name.as_deref().and_then(clean_name);
    let to = std::iter::once(&message.to).chain(&message.also_to);
    let mut headers = Headers::new();
    headers.set(header::Date::new(SystemTime::from(message.accepted_at)));
    let from = Mailbox::new(from_name.clone(), own.clone());
    headers.set(header::From::from(Mailboxes::from(from)));
    headers.set(header::To::from(mailboxes(to)?));
    if !message.cc.is_empty() {
        headers.set(header::Cc::from(mailboxes(message.cc.iter())?));
    }
    headers.set(header::MessageId::from(format!("<{message_id}>")));
    // Relays that give the mail another Message-ID leave this one, and bounces bring it back.
    let own_id = HeaderName::new_from_ascii_str(OWN_ID_HEADER);
    headers.insert_raw(HeaderValue::new(own_id, format!("<{message_id}>")));
    if relay::wants_keep_id(&settings.smtp.host) {
        let keep = HeaderName::new_from_ascii_str("X-PM-KeepID");
        headers.insert_raw(HeaderValue::new(keep, "true".to_owned()));
    }
    if settings.plus_address {
        let address = plus_address(own, &message.reply_token)?;
        let reply_to = Mailbox::new(from_name, address);
        headers.set(header::ReplyTo::from(Mailboxes::from(reply_to)));
    }
    if let Some(subject) = message.subject.as_deref() {
        let subject: String = one_line(subject).chars().take(SUBJECT_CHARS_MAX).collect();
        headers.insert_raw(subject_header(subject));
    }
    let references = references(&message.references);
    if let Some(nearest) = references.last() {
        headers.set(header::InReplyTo::from(nearest.clone()));
        headers.set(header::References::from(references.join(" ")));
    }
    if message.automatic {
        let x_loop = settings.address.as_str();
        for (name, value) in [
            // Stays when a forwarder changes author and id: what comes back with it is a loop.
            ("X-Loop", x_loop),
            ("Auto-Submitted", "auto-replied"),
            ("X-Auto-Response-Suppress", "All"),
            ("Precedence", "auto_reply"),
        ] {
            let name = HeaderName::new_from_ascii_str(name);
            headers.insert_raw(HeaderValue::new(name, value.to_owned()));
        }
    }
    headers.set(header::MIME_VERSION_1_0);
    Ok(headers)
}

/// Everybody the mail goes to, once, and where they stand in the message.
fn recipients(message: &OutboundMessage) -> Result<(Vec<Address>, Vec<usize>)> {
    let mut known: Vec<Address> = Vec::new();
    let mut places = Vec::new();
    for (place, recipient) in (1..).zip(message.recipients()) {
        let address = address(recipient)?;
        if !known.contains(&address) {
            known.push(address);
            places.push(place);
        }
    }
    if known.len() > usize::from(RECIPIENTS_MAX) {
        return Err(Error::rejected(format!(
            "a mail goes to at most {RECIPIENTS_MAX} recipients, not to {}",
            known.len()
        )));
    }
    Ok((known, places))
}

fn mailboxes<'a>(recipients: impl Iterator<Item = &'a Recipient>) -> Result<Mailboxes> {
    let mut all = Mailboxes::new();
    for recipient in recipients {
        let name = recipient.name.as_deref().and_then(clean_name);
        all.push(Mailbox::new(name, address(recipient)?));
    }
    Ok(all)
}

fn address(recipient: &Recipient) -> Result<Address> {
    if recipient.namespace != Namespace::email() {
        return Err(Error::rejected("a recipient has no mail address"));
    }
    let text = &recipient.address;
    // In quotes these are allowed, and readers of the header take them for another address.
    let is_read_apart = |c| matches!(c, '<' | '>' | '(' | ')' | '@' | ',' | ';' | ':' | '\\');
    let local = text.rsplit_once('@').map_or("", |(local, _)| local);
    let is_clean = !text.contains(|c: char| c.is_control() || c.is_whitespace())
        && !local.contains(is_read_apart)
        && !local.contains("=?");
    let address = is_clean.then(|| text.parse::<Address>().ok()).flatten();
    address.ok_or_else(|| Error::rejected("a recipient's mail address is not valid"))
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

/// Our address with `tag` behind a plus; what it had there gives way.
pub(crate) fn plus_address(own: &Address, tag: &str) -> Result<Address> {
    let local = own.user().split('+').next().unwrap_or_default();
    Address::new(format!("{local}+{tag}"), own.domain())
        .map_err(|error| Error::rejected(format!("cannot write the address for answers: {error}")))
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

/// A name for a header: one line, nothing invisible; `None` when nothing is left. What a receiver
/// would take for an encoded word (RFC 2047) is taken apart: decoded it may hold line breaks.
fn clean_name(text: &str) -> Option<String> {
    let name: String = one_line(text).chars().take(200).collect();
    let name = name.replace("=?", "= ?");
    (!name.is_empty()).then_some(name)
}

/// A subject that reads at the receiver as it was written: with what looks like an encoded word in it,
/// all of it is encoded.
fn subject_header(subject: String) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Subject");
    if !subject.contains("=?") {
        return HeaderValue::new(name, subject);
    }
    let mut words: Vec<String> = Vec::new();
    let mut rest = subject.as_str();
    while !rest.is_empty() {
        let (word, behind) = rest.split_at(rest.floor_char_boundary(ENCODED_WORD_BYTES_MAX));
        words.push(format!("=?utf-8?b?{}?=", STANDARD.encode(word)));
        rest = behind;
    }
    HeaderValue::dangerous_new_pre_encoded(name, subject, words.join("\r\n "))
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
