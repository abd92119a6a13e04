//! Hashes of names, as the store keeps them. Frozen: rows written by older versions hold them.

use aws_lc_rs::digest;
use connector_api::{BrandId, ChannelId, Event, InboundEvent, Namespace};

use super::facts::Key16;

/// Digests in JSON keep 53 bits, so that every reader sees the same number.
const SPARE_BITS: u32 = 11;

/// What a key is a hash of, so that equal names of different things never meet.
#[derive(Clone, Copy)]
pub enum KeyKind {
    Event = 1,
    Thread = 2,
    MessageId = 3,
    Acknowledged = 4,
    Sent = 5,
}

/// SHA-256 over length-prefixed parts, cut to 16 bytes.
fn key16(kind: KeyKind, parts: &[&str]) -> Key16 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[kind as u8]);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut key = [0; 16];
    key.copy_from_slice(context.finish().as_ref().split_at(16).0);
    key
}

/// The key of an event of a channel.
pub fn event(brand: &BrandId, channel: &ChannelId, dedupe_key: &str) -> Key16 {
    key16(
        KeyKind::Event,
        &[brand.as_str(), channel.as_str(), dedupe_key],
    )
}

/// The key of a provider's thread.
pub fn thread(brand: &BrandId, channel: &ChannelId, native: &str) -> Key16 {
    key16(KeyKind::Thread, &[brand.as_str(), channel.as_str(), native])
}

/// The key of an id that later messages refer to. Ids live in the namespace of whoever wrote them:
/// mail Message-IDs are one space per brand, whichever mailbox they came to.
pub fn message_id(brand: &BrandId, namespace: &Namespace, id: &str) -> Key16 {
    key16(
        KeyKind::MessageId,
        &[brand.as_str(), namespace.as_str(), id],
    )
}

/// The key of a provider's id for a message we sent, as receipts name it.
pub fn sent(brand: &BrandId, channel: &ChannelId, provider_id: &str) -> Key16 {
    key16(
        KeyKind::Sent,
        &[brand.as_str(), channel.as_str(), provider_id],
    )
}

/// The key of "this address got an acknowledgement on this channel".
pub fn acknowledged(channel: &ChannelId, address: &str) -> Key16 {
    key16(KeyKind::Acknowledged, &[channel.as_str(), address])
}

/// Tells two events under one dedupe key apart: a hash of fields a provider repeats exactly and
/// that no clean-up of ours touches. Version 1, frozen: letters and digits of the text, the
/// sender's address, the target; no times, no spacing, no transport headers.
pub fn digest(event: &InboundEvent) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"v1");
    context.update(event.event.kind().as_str().as_bytes());
    let mut add = |text: &str| {
        let stable: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
        context.update(&(stable.len() as u64).to_be_bytes());
        context.update(stable.as_bytes());
    };
    match &event.event {
        Event::Message(message) | Event::Echo(message) => {
            add(message
                .from
                .identities
                .first()
                .map_or("", |identity| identity.address.as_str()));
            add(&message.text);
            if message.text.is_empty() {
                add(message.html.as_deref().unwrap_or_default());
            }
            add(&message.attachments.len().to_string());
        }
        Event::Edit { target, text, .. } => {
            add(target);
            add(text);
        }
        Event::Delete { target } => add(target),
        Event::Reaction {
            target,
            emoji,
            removed,
            ..
        } => {
            add(target);
            // An emoji has no letters: its code points stand for it.
            add(&emoji
                .chars()
                .map(|c| format!("{:x}.", u32::from(c)))
                .collect::<String>());
            add(if *removed { "removed" } else { "" });
        }
        Event::Receipt { target, stage, .. } => {
            add(target);
            add(&format!("{stage:?}"));
        }
        Event::System { text, .. } => add(text),
        _ => {}
    }
    first_u64(context.finish().as_ref()) >> SPARE_BITS
}

/// Tells near-duplicate texts: letters and digits only, in lower case; `None` for texts too short
/// to mean anything ("ok", "thanks!").
pub fn fingerprint(text: &str) -> Option<u64> {
    const LETTERS_MIN: usize = 12;
    let letters: String = text
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    if letters.chars().count() < LETTERS_MIN {
        return None;
    }
    Some(first_u64(digest::digest(&digest::SHA256, letters.as_bytes()).as_ref()) >> SPARE_BITS)
}

fn first_u64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
