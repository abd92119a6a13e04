//! What a mail is known by, as far as its header fields say it.

use connector_api::{DedupeKey, reply_token_candidates};

use crate::parse::headers::Headers;
use crate::parse::{key, threading};

/// The fields that [`Head::read`] looks at.
pub(crate) const HEAD_FIELDS: [&str; 2] = ["MESSAGE-ID", "X-SWITCHBOARD-ID"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) message_id: Option<String>,
    /// `None` where it is made of the body.
    pub(crate) key: Option<DedupeKey>,
    /// The id that it left under, if it bears a token of a Switchboard's.
    pub(crate) sent_as: Option<String>,
}

impl Head {
    pub(crate) fn read(raw: &[u8]) -> Self {
        let (headers, _) = Headers::split(raw);
        let message_id = threading::message_id(&headers);
        let has_token = |id: &String| !reply_token_candidates(id).is_empty();
        // A service on its way may have given it another Message-ID.
        let sent_as = threading::own_id(&headers).filter(has_token);
        Self {
            key: (message_id.as_deref()).map(|id| key::dedupe_key(Some(id), &headers, b"")),
            sent_as: sent_as.or_else(|| message_id.clone().filter(has_token)),
            message_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_known_by_its_message_id_and_without_one_by_nothing() {
        let head = Head::read(b"Message-ID: <kim-1@customer.example>\r\n\r\n");
        let key = head.key.as_ref().map(DedupeKey::as_str);
        assert_eq!(key, Some("mid:kim-1@customer.example"));
        assert_eq!(head.sent_as, None);
        assert_eq!(Head::read(b"\r\n").key, None);
    }
}
