//! Ids: integers inside, typed and unguessable outside.
//!
//! A public id is `<kind>_<UUID>`: 62 bits hold the integer enciphered, 60 bits a check of kind and
//! integer under a key of the installation. So an id is turned back without any index (a random
//! secondary index would cost a page write per message), cannot be guessed, shows nothing about
//! time or volume, and stays the same whenever the message is decided again.
//!
//! The UUIDs are of version 8 (RFC 9562, section 5.8) and not of version 7: one that bears its
//! row's time can be shown only by who has read that row, and most ids are shown by others (a
//! conversation names its contact, an explanation the messages it went by). The order of ids means
//! nothing; lists are paged by cursors.

use aws_lc_rs::hmac;
use uuid::Uuid;

macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);
    };
}

row_id! {
    /// A message; for an inbound one, the bus offset it arrived at.
    MessageId
}
row_id! {
    /// A conversation.
    ConversationId
}
row_id! {
    /// A contact.
    ContactId
}
row_id! {
    /// An identity.
    IdentityId
}

/// What a public id names; its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    Conversation,
    Message,
    Contact,
    Event,
    Token,
    /// Where a list goes on: a row as a cursor.
    Page,
    /// A file of a message: see [`IdCodec::attachment`].
    Attachment,
    Macro,
    /// A file that waits for its answer.
    Upload,
    /// The time in a cursor of a list by time.
    PageTime,
    Erasure,
}

impl IdKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Conversation => "cnv",
            Self::Message => "msg",
            Self::Contact => "con",
            Self::Event => "evt",
            Self::Token => "tok",
            Self::Page => "cur",
            Self::Attachment => "att",
            Self::Macro => "mac",
            Self::Upload => "fil",
            Self::PageTime => "at",
            Self::Erasure => "era",
        }
    }
}

/// Turns row ids into public ids and back, with a key of the installation.
#[derive(Clone)]
pub struct IdCodec {
    key: hmac::Key,
}

/// Bits of the integer that fit beside the UUID's version and variant.
const NUMBER_BITS: u32 = 62;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
const CHECK_BITS: u32 = 60;
/// Attachments of one message that have an id: more than any connector keeps.
pub const PLACES_MAX: i64 = 1 << 10;

impl IdCodec {
    pub fn new(key: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
        }
    }

    /// The public id of row `number`.
    pub fn encode(&self, kind: IdKind, number: i64) -> String {
        let number = number as u64 & NUMBER_MASK;
        let check = self.check(kind, number);
        let hidden = number ^ self.mask(kind, check);
        // 48 bits, version 8, 12 bits, variant 0b10, 62 bits.
        let bits = u128::from(check >> 12) << 80
            | 0x8 << 76
            | u128::from(check & 0xfff) << 64
            | 0b10 << NUMBER_BITS
            | u128::from(hidden);
        format!("{}_{}", kind.prefix(), Uuid::from_u128(bits).as_simple())
    }

    /// The row that a public id names; `None` for anything this installation did not make. That
    /// the row exists, and who may see it, is the caller's question.
    pub fn decode(&self, kind: IdKind, text: &str) -> Option<i64> {
        let simple = text.strip_prefix(kind.prefix())?.strip_prefix('_')?;
        if simple.len() != 32 {
            return None;
        }
        let bits = Uuid::try_parse(simple).ok()?.as_u128();
        let check = ((bits >> 80) as u64) << 12 | (bits >> 64) as u64 & 0xfff;
        let number = bits as u64 & NUMBER_MASK ^ self.mask(kind, check);
        let shape = (bits >> 76 & 0xf, bits >> NUMBER_BITS & 0b11);
        (shape == (8, 0b10) && check == self.check(kind, number)).then_some(number as i64)
    }

    /// The public id of the file at `place` among a message's attachments; those beyond
    /// [`PLACES_MAX`] have none.
    pub fn attachment(&self, message: MessageId, place: usize) -> Option<String> {
        let place = i64::try_from(place)
            .ok()
            .filter(|place| *place < PLACES_MAX)?;
        Some(self.encode(IdKind::Attachment, message.0 * PLACES_MAX + place))
    }

    /// The message and place that the public id of a file names.
    pub fn decode_attachment(&self, text: &str) -> Option<(MessageId, usize)> {
        let number = self.decode(IdKind::Attachment, text)?;
        let place = usize::try_from(number % PLACES_MAX).ok()?;
        Some((MessageId(number / PLACES_MAX), place))
    }

    fn check(&self, kind: IdKind, number: u64) -> u64 {
        self.tag(b'c', kind, number) >> (u64::BITS - CHECK_BITS)
    }

    /// What hides the integer: keyed by the check, which is the nonce of this encryption as in
    /// SIV (RFC 5297): equal only for equal integers of one kind.
    fn mask(&self, kind: IdKind, check: u64) -> u64 {
        self.tag(b'm', kind, check) & NUMBER_MASK
    }

    fn tag(&self, purpose: u8, kind: IdKind, value: u64) -> u64 {
        let mut bytes = [purpose, kind as u8, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..].copy_from_slice(&value.to_be_bytes());
        first_u64(hmac::sign(&self.key, &bytes).as_ref())
    }
}

fn first_u64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The next row id, unique in the installation. One sequence serves all kinds, so a conversation
/// may be named after its founding message.
pub trait IdSource {
    fn next(&mut self) -> i64;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [IdKind; 8] = [
        IdKind::Attachment,
        IdKind::Conversation,
        IdKind::Message,
        IdKind::Contact,
        IdKind::Event,
        IdKind::Token,
        IdKind::Page,
        IdKind::Upload,
    ];

    proptest! {
        #[test]
        fn a_public_id_comes_back_as_its_row(number in 0i64..1 << 62) {
            let codec = IdCodec::new(b"key");
            for kind in KINDS {
                let id = codec.encode(kind, number);
                prop_assert_eq!(codec.decode(kind, &id), Some(number));
                prop_assert_eq!(&codec.encode(kind, number), &id);
            }
        }

        #[test]
        fn whatever_text_is_given_nothing_panics(text in ".*", hex in "[0-9a-fA-F]{32}") {
            let codec = IdCodec::new(b"key");
            for text in [text.clone(), format!("msg_{text}"), format!("msg_{hex}")] {
                prop_assert_eq!(codec.decode(IdKind::Message, &text), None);
            }
        }

        #[test]
        fn an_id_with_any_bit_changed_is_nobodys(number in 0i64..1 << 62, bit in 0u32..128) {
            let codec = IdCodec::new(b"key");
            let id = codec.encode(IdKind::Message, number);
            let bits = Uuid::try_parse(id.strip_prefix("msg_").unwrap()).unwrap().as_u128() ^ 1 << bit;
            let changed = format!("msg_{}", Uuid::from_u128(bits).as_simple());
            prop_assert_eq!(codec.decode(IdKind::Message, &changed), None);
        }
    }

    #[test]
    fn ids_are_version_8_uuids_of_one_kind_and_one_installation() {
        let codec = IdCodec::new(b"key");
        let id = codec.encode(IdKind::Conversation, 7);
        let uuid = Uuid::try_parse(id.strip_prefix("cnv_").unwrap()).unwrap();
        assert_eq!(uuid.get_version_num(), 8);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(
            IdCodec::new(b"another").decode(IdKind::Conversation, &id),
            None
        );
        assert_eq!(
            codec.decode(IdKind::Message, &id.replace("cnv_", "msg_")),
            None
        );
    }

    #[test]
    fn a_conversation_and_its_founding_message_show_no_likeness() {
        let codec = IdCodec::new(b"key");
        let [conversation, message] = [IdKind::Conversation, IdKind::Message]
            .map(|kind| codec.encode(kind, 7).split_off("cnv_".len()));
        assert_ne!(conversation.split_at(16), message.split_at(16));
        assert_ne!(conversation.split_at(16).1, message.split_at(16).1);
    }

    #[test]
    fn the_id_of_a_file_names_its_message_and_place() {
        let ids = IdCodec::new(b"key");
        let message = MessageId(1 << 50);
        for place in [0, 1, 1_023] {
            let id = ids.attachment(message, place).unwrap();
            assert!(id.starts_with("att_"));
            assert_eq!(ids.decode_attachment(&id), Some((message, place)));
        }
        assert_eq!(ids.attachment(message, 1_024), None);
        let other = ids.encode(IdKind::Message, 1);
        assert_eq!(ids.decode_attachment(&other), None);
    }
}
