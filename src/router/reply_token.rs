//! Reply tokens: a conversation's name with a MAC, put where answers carry it back (the reply
//! address, our own Message-ID). A valid token says which conversation is meant; it is not a
//! right to join it.

use aws_lc_rs::{constant_time, hmac};

use crate::ids::ConversationId;

const NUMBER_BYTES: usize = 6;
const MAC_BYTES: usize = 10;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Makes and checks tokens with the installation's key.
#[derive(Clone)]
pub struct ReplyTokens {
    key: hmac::Key,
}

impl ReplyTokens {
    pub fn new(key: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
        }
    }

    /// `sb` and 26 characters: six bytes of the conversation's number and an 80-bit MAC.
    pub fn mint(&self, conversation: ConversationId) -> String {
        let number = number_bytes(conversation);
        let bytes: Vec<u8> = number.into_iter().chain(self.mac(number)).collect();
        format!("sb{}", base32(&bytes))
    }

    /// The conversation that a token names, where its MAC holds.
    pub fn verify(&self, token: &str) -> Option<ConversationId> {
        let bytes = unbase32(token.strip_prefix("sb")?)?;
        let (number, mac) = bytes.split_at_checked(NUMBER_BYTES)?;
        let number: [u8; NUMBER_BYTES] = number.try_into().ok()?;
        if bug!("mac-compared-by-equality") {
            (mac == self.mac(number)).then_some(())?;
        } else if !bug!("mac-not-checked") {
            constant_time::verify_slices_are_equal(mac, &self.mac(number)).ok()?;
        }
        let value = number
            .iter()
            .fold(0, |value: i64, byte| value << 8 | i64::from(*byte));
        Some(ConversationId(value))
    }

    /// A token of the same shape that names no conversation: what bears it is a test of its
    /// channel. `number`: any, below 2^48.
    pub fn mint_test(&self, number: u64) -> String {
        let [_, _, number @ ..] = number.to_be_bytes();
        let bytes: Vec<u8> = number.into_iter().chain(self.test_mac(number)).collect();
        format!("sb{}", base32(&bytes))
    }

    /// Whether this installation made the token for a test of a channel.
    pub fn is_test(&self, token: &str) -> bool {
        let bytes = token.strip_prefix("sb").and_then(unbase32);
        let parts = bytes.as_deref().and_then(|bytes| bytes.split_first_chunk());
        parts.is_some_and(|(number, mac)| {
            constant_time::verify_slices_are_equal(mac, &self.test_mac(*number)).is_ok()
        })
    }

    fn test_mac(&self, number: [u8; NUMBER_BYTES]) -> [u8; MAC_BYTES] {
        self.mac_of(b"channel-test:", number)
    }

    fn mac(&self, number: [u8; NUMBER_BYTES]) -> [u8; MAC_BYTES] {
        self.mac_of(b"reply-token:", number)
    }

    fn mac_of(&self, purpose: &[u8], number: [u8; NUMBER_BYTES]) -> [u8; MAC_BYTES] {
        let tag = hmac::sign(&self.key, &[purpose, &number].concat());
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(tag.as_ref().split_at(MAC_BYTES).0);
        mac
    }
}

fn number_bytes(conversation: ConversationId) -> [u8; NUMBER_BYTES] {
    let [_, _, number @ ..] = conversation.0.to_be_bytes();
    number
}

fn base32(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut buffer, mut bits) = (0u32, 0);
    for byte in bytes {
        buffer = buffer << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(buffer >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(buffer << (5 - bits) & 31) as usize]));
    }
    text
}

fn unbase32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut buffer, mut bits) = (0u32, 0);
    for symbol in text.bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == symbol)?;
        buffer = buffer << 5 | value as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits & 255) as u8);
        }
    }
    (bytes.len() == NUMBER_BYTES + MAC_BYTES).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_names_its_conversation_and_survives_mail_systems(number in 0i64..1 << 48) {
            let tokens = ReplyTokens::new(b"key");
            let token = tokens.mint(ConversationId(number));
            let found = connector_api::reply_token_candidates(&format!("Support+{}@Shop.Example", token.to_uppercase()));
            prop_assert_eq!(&found, std::slice::from_ref(&token));
            prop_assert_eq!(tokens.verify(&token), Some(ConversationId(number)));
        }

        #[test]
        fn a_changed_token_names_nothing(number in 0i64..1 << 48, at in 2usize..28, letter in 0usize..32) {
            let tokens = ReplyTokens::new(b"key");
            let token = tokens.mint(ConversationId(number));
            let mut forged = token.clone().into_bytes();
            forged[at] = ALPHABET[letter];
            let forged = String::from_utf8(forged).unwrap();
            // The last letter carries two spare bits: a change there may be no change at all.
            prop_assume!(forged != token && at < 27);
            prop_assert_eq!(tokens.verify(&forged), None);
        }
    }

    #[test]
    fn a_token_of_another_installation_names_nothing() {
        let token = ReplyTokens::new(b"one").mint(ConversationId(7));
        assert_eq!(ReplyTokens::new(b"two").verify(&token), None);
    }

    #[test]
    fn a_test_token_looks_like_a_reply_token_names_no_conversation_and_needs_our_mac() {
        let tokens = ReplyTokens::new(b"key");
        let token = tokens.mint_test(7);
        let found = connector_api::reply_token_candidates(&token);
        assert_eq!(found, std::slice::from_ref(&token));
        assert!(tokens.is_test(&token));
        assert_eq!(tokens.verify(&token), None);
        assert!(!tokens.is_test(&tokens.mint(ConversationId(7))));
        assert!(!ReplyTokens::new(b"other").is_test(&token));
        for text in ["", "sb", "sbaaaa"] {
            assert!(!tokens.is_test(text), "{text}");
        }
    }
}
