//! Hashes of names, as the store keeps them. Frozen: rows written by older versions hold them.

use aws_lc_rs::digest;
use connector_api::{BrandId, ChannelId, Event, InboundEvent, Namespace};
use siphasher::sip::SipHasher24;

use super::ascii;
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
    ChannelTest = 6,
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

/// The key of "this mailbox got an acknowledgement on this channel". What follows a plus names no
/// other mailbox: ticket systems put a number there.
pub fn acknowledged(channel: &ChannelId, address: &str) -> Key16 {
    let mailbox = address.split_once('@').map(|(local, domain)| {
        let (name, _) = local.split_once('+').unwrap_or((local, ""));
        format!("{name}@{domain}")
    });
    let address = mailbox.as_deref().unwrap_or(address);
    key16(KeyKind::Acknowledged, &[channel.as_str(), address])
}

/// The key of the message that bears a channel test's token.
pub fn channel_test(token: &str) -> Key16 {
    key16(KeyKind::ChannelTest, &[token])
}

/// The key of "this text from this domain got an acknowledgement on this channel": letters alone,
/// because machines put numbers into theirs. `None` for texts that many people write, and for
/// addresses without a domain.
pub fn acknowledged_text(channel: &ChannelId, address: &str, text: &str) -> Option<Key16> {
    const LETTERS_MIN: usize = 24;
    /// Characters looked at.
    const TEXT_CHARS_MAX: usize = 2_000;
    let (_, domain) = address.rsplit_once('@')?;
    let letters = text.chars().take(TEXT_CHARS_MAX);
    let letters: String = letters.filter(|c| c.is_alphabetic()).collect();
    let is_long = letters.chars().nth(LETTERS_MIN).is_some();
    let letters = letters.to_lowercase();
    is_long.then(|| key16(KeyKind::Acknowledged, &[channel.as_str(), domain, &letters]))
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
#[derive(Clone, Copy)]
enum Case {
    Kept,
    Lower,
}

/// What becomes of each ASCII byte: 0 for what is neither a letter nor a digit.
type Letters = [u8; 256];
static LETTERS: Letters = letters(Case::Kept);
static LOWER_LETTERS: Letters = letters(Case::Lower);

const fn letters(case: Case) -> Letters {
    let mut letters = [0; 256];
    let mut byte = 0_u8;
    while byte.is_ascii() {
        if byte.is_ascii_alphanumeric() {
            letters[byte as usize] = match case {
                Case::Kept => byte,
                Case::Lower => byte.to_ascii_lowercase(),
            };
        }
        byte += 1;
    }
    letters
}

/// Appends only letters and digits.
fn push_letters(out: &mut Vec<u8>, text: &str, case: Case) {
    let letters = match case {
        Case::Kept => &LETTERS,
        Case::Lower => &LOWER_LETTERS,
    };
    out.reserve(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        rest = ascii::push(out, rest, |byte| {
            let letter = letters[usize::from(byte)];
            (letter, usize::from(letter != 0))
        });
        let mut chars = rest.chars();
        let Some(letter) = chars.next().filter(|c| !c.is_ascii()) else {
            continue;
        };
        rest = chars.as_str();
        match case {
            _ if !letter.is_alphanumeric() => {}
            Case::Kept => push_char(out, letter),
            Case::Lower => letter.to_lowercase().for_each(|c| push_char(out, c)),
        }
    }
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_letters_of_a_text_are_its_letters_and_digits(text in "(?s)([ -~]|.|[A-Za-z0-9]{60,70}|[ÄßİéЖ語€]){0,40}") {
            let letters = || text.chars().filter(|c| c.is_alphanumeric());
            for (case, plain) in [
                (Case::Kept, letters().collect::<String>()),
                (Case::Lower, letters().flat_map(char::to_lowercase).collect()),
            ] {
                let mut out = b"before".to_vec();
                push_letters(&mut out, &text, case);
                prop_assert_eq!(String::from_utf8_lossy(&out), format!("before{plain}"));
            }
        }
    }
}
