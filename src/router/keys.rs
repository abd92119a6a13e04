//! Hashes of names, as the store keeps them. Frozen: rows written by older versions hold them.

use aws_lc_rs::digest;
use connector_api::{BrandId, ChannelId, Event, InboundEvent, Namespace};
use siphasher::sip::SipHasher24;

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

/// Tells two events under one dedupe key apart: a keyed hash of fields a provider repeats exactly
/// and that no clean-up of ours touches. Version 1, frozen: letters and digits of the text, the
/// sender's address, the target; no times, no spacing, no transport headers. The installation's key
/// keeps anybody from making up other words with the same digest.
pub fn digest(key: &DigestKey, event: &InboundEvent) -> u64 {
    let mut fields = Fields(Vec::with_capacity(FIELDS_BYTES));
    fields.0.extend_from_slice(b"v1");
    fields
        .0
        .extend_from_slice(event.event.kind().as_str().as_bytes());
    match &event.event {
        Event::Message(message) | Event::Echo(message) => {
            let author = message.from.identities.first();
            fields.add(author.map_or("", |identity| identity.address.as_str()));
            fields.add(&message.text);
            if message.text.is_empty() {
                fields.add(message.html.as_deref().unwrap_or_default());
            }
            fields.add(&message.attachments.len().to_string());
        }
        Event::Edit { target, text, .. } => {
            fields.add(target);
            fields.add(text);
        }
        Event::Delete { target } => fields.add(target),
        Event::Reaction {
            target,
            emoji,
            removed,
            ..
        } => {
            fields.add(target);
            // An emoji has no letters: its code points stand for it.
            let code_points = emoji.chars().map(|c| format!("{:x}.", u32::from(c)));
            fields.add(&code_points.collect::<String>());
            fields.add(if *removed { "removed" } else { "" });
        }
        Event::Receipt { target, stage, .. } => {
            fields.add(target);
            fields.add(&format!("{stage:?}"));
        }
        Event::System { text, .. } => fields.add(text),
        _ => {}
    }
    SipHasher24::new_with_key(&key.0).hash(&fields.0) >> SPARE_BITS
}

/// The key of [`digest`], made from the installation's.
#[derive(Clone)]
pub struct DigestKey([u8; 16]);

impl DigestKey {
    /// Takes the first 16 of the bytes; fewer are filled up with zeros.
    pub fn new(bytes: &[u8]) -> Self {
        let mut key = [0; 16];
        key.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(key)
    }
}

/// Room for the fields of most messages.
const FIELDS_BYTES: usize = 2048;

/// The letters and digits of several texts, each with its length.
struct Fields(Vec<u8>);

impl Fields {
    fn add(&mut self, text: &str) {
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 8]);
        push_letters(&mut self.0, text, Case::Kept);
        let length = (self.0.len() - at - 8) as u64;
        if let Some(place) = self.0.get_mut(at..at + 8) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// Whether letters keep their case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Kept,
    Lower,
}

/// Appends only letters and digits. Every message goes through here twice, so ASCII is written
/// without a branch per letter.
fn push_letters(out: &mut Vec<u8>, text: &str, case: Case) {
    let mut end = out.len();
    out.resize(end + text.len(), 0);
    let mut longer = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii() {
            let kept = if case == Case::Lower {
                byte.to_ascii_lowercase()
            } else {
                byte
            };
            if let Some(place) = out.get_mut(end) {
                *place = kept;
            }
            end += usize::from(byte.is_ascii_alphanumeric());
            continue;
        }
        // A letter beyond ASCII is taken at its first byte; the others are no beginnings.
        let letter = text.get(at..).and_then(|rest| rest.chars().next());
        let Some(letter) = letter.filter(|c| c.is_alphanumeric()) else {
            continue;
        };
        let mut bytes = [0; 4];
        let lower = letter.to_lowercase().filter(|_| case == Case::Lower);
        let same = (case == Case::Kept).then_some(letter);
        for c in lower.chain(same) {
            longer.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes());
        }
        // Lower case may be longer than the letter was ("İ").
        if end + longer.len() + text.len() - at > out.len() {
            out.resize(end + longer.len() + text.len() - at, 0);
        }
        if let Some(place) = out.get_mut(end..end + longer.len()) {
            place.copy_from_slice(&longer);
        }
        end += longer.len();
        longer.clear();
    }
    out.truncate(end);
}

/// Tells near-duplicate texts of one contact: letters and digits only, in lower case; `None` for
/// texts too short to mean anything ("ok", "thanks!"). Frozen, too: conversations keep them.
pub fn fingerprint(text: &str) -> Option<u64> {
    const LETTERS_MIN: usize = 12;
    let mut letters = Vec::new();
    push_letters(&mut letters, text, Case::Lower);
    // Continuation bytes of UTF-8 begin no letter.
    let count = letters.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
    (count >= LETTERS_MIN).then(|| SipHasher24::new().hash(&letters) >> SPARE_BITS)
}
