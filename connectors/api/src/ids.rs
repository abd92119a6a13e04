//! Names a connector and the daemon exchange. All are strings: provider ids exceed 2^53 and keep
//! leading zeros, so they are never numbers.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest configured id, in characters.
pub const ID_CHARS_MAX: usize = 64;

/// Says why a configured id was refused; the text names the allowed form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an id: use 1 to 64 characters of a-z, 0-9 and -")]
pub struct InvalidId(pub String);

macro_rules! configured_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(#[schemars(regex(pattern = "^[a-z0-9-]{1,64}$"))] String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                if text.is_empty() || text.len() > ID_CHARS_MAX || !text.chars().all(allowed) {
                    return Err(InvalidId(text.to_owned()));
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

configured_id! {
    /// One configured account of a connector: `support-mail`, `sms-us`.
    ChannelId
}
configured_id! {
    /// The shop a channel belongs to; contacts and conversations never cross it. Default `main`.
    BrandId
}
configured_id! {
    /// An agent queue.
    QueueId
}

impl Default for BrandId {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

/// The connector's event key: equal for every delivery of one event, different for every other
/// event of the channel. It includes the edit version, the receipt stage, the reaction instance.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct DedupeKey(String);

impl DedupeKey {
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DedupeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an address means something: `email` and `phone` are global within a brand; every other
/// namespace is scoped to the provider account, as `whatsapp:<portfolio>` or `webhook:<channel>`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Namespace(String);

impl Namespace {
    pub fn email() -> Self {
        Self("email".to_owned())
    }

    pub fn phone() -> Self {
        Self("phone".to_owned())
    }

    /// A namespace of one provider account.
    pub fn account(provider: &str, account: &str) -> Self {
        Self(format!("{provider}:{account}"))
    }

    /// A namespace by its stored name.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Length of a reply token: `sb` and 26 characters of lower-case base32 (RFC 4648, no padding).
pub const REPLY_TOKEN_CHARS: usize = 28;

/// Everything in `text` that has the shape of a reply token, in lower case (mail systems fold the
/// case of local parts). Only the daemon can tell whether its MAC holds.
pub fn reply_token_candidates(text: &str) -> Vec<String> {
    let is_base32 = |c: &u8| c.is_ascii_lowercase() || (b'2'..=b'7').contains(c);
    let lower = text.to_ascii_lowercase();
    lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.len() == REPLY_TOKEN_CHARS)
        .filter_map(|word| word.strip_prefix("sb").map(|rest| (word, rest)))
        .filter(|(_, rest)| rest.as_bytes().iter().all(is_base32))
        .map(|(word, _)| word.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_in_plus_addresses_and_message_ids_whatever_their_case() {
        let token = format!("sb{}", "a2".repeat(13));
        let upper = token.to_ascii_uppercase();
        for text in [
            format!("support+{token}@shop.example"),
            format!("<{token}.msg_0190@shop.example>"),
            format!("SUPPORT+{upper}@SHOP.EXAMPLE"),
        ] {
            assert_eq!(
                reply_token_candidates(&text),
                std::slice::from_ref(&token),
                "{text}"
            );
        }
        for text in [
            "",
            "support@shop.example",
            "sbaaaa",
            "sb18aaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(reply_token_candidates(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn ids_name_what_is_allowed() {
        assert!("support-mail".parse::<ChannelId>().is_ok());
        let error = "Support".parse::<ChannelId>().unwrap_err().to_string();
        assert!(error.contains("a-z, 0-9 and -"), "{error}");
    }
}
