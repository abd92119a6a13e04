//! A gap by name, with what to do about it.

use connector_api::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is missing where.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GapKind {
    /// The provider has it, and the channel has not read it.
    NotRead,
    /// The provider has it, the channel is past it, and nothing of it was accepted.
    NeverAccepted,
    /// Accepted, and not decided.
    NotDecided,
    /// Accepted, and could not be filed.
    DeadLetter,
    /// Accepted and decided, and its message is not there.
    NotStored,
    /// A message is in no conversation.
    NoConversation,
    /// A conversation that should wait is in no queue.
    InNoQueue,
    /// A conversation is with somebody, or over, and waits in a queue all the same.
    InTwoPlaces,
    /// A snoozed conversation that nothing wakes.
    NothingWakes,
    /// Nobody knows whether a reply left.
    ReplyUnknown,
    /// A reply was accepted, has not left, and nothing would send it.
    ReplyLost,
    /// A reply should have left some time ago.
    ReplyLate,
    /// A reply left, and the provider, which keeps copies, has none of it.
    NoCopy,
}

impl GapKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRead => "not_read",
            Self::NeverAccepted => "never_accepted",
            Self::NotDecided => "not_decided",
            Self::DeadLetter => "dead_letter",
            Self::NotStored => "not_stored",
            Self::NoConversation => "no_conversation",
            Self::InNoQueue => "in_no_queue",
            Self::InTwoPlaces => "in_two_places",
            Self::NothingWakes => "nothing_wakes",
            Self::ReplyUnknown => "reply_unknown",
            Self::ReplyLost => "reply_lost",
            Self::ReplyLate => "reply_late",
            Self::NoCopy => "no_copy",
        }
    }

    /// What to do; `id` is the record's or message's, `copied` whether the provider has a copy of the reply.
    pub fn next(self, channel: &str, id: &str, copied: bool) -> String {
        match self {
            Self::NotRead => format!(
                "look at channel:{channel} in /readyz and run `switchboard channel test {channel}`; it is read once the channel works"
            ),
            Self::NeverAccepted => format!(
                "save it at the provider and run `switchboard import {channel} FILE --live`; in a mailbox it is enough to move it to another folder and back"
            ),
            Self::NotDecided => {
                "look at router in /readyz and run `switchboard doctor`; it is decided once the router works".to_owned()
            }
            Self::DeadLetter => format!(
                "see `switchboard dead-letters show {id}`, mend what it names, then `switchboard dead-letters redrive {id}`"
            ),
            Self::NotStored => format!(
                "nothing of Switchboard removes it like that: keep a backup of the data as they are, then fetch it at the provider and `switchboard import {channel} FILE --live`, or restore it from a backup"
            ),
            Self::NoConversation | Self::InNoQueue | Self::InTwoPlaces | Self::NothingWakes => {
                "nothing of Switchboard leaves it like that: keep a backup of the data as they are, then give the conversation to a queue or an agent over the API, or restore it from a backup".to_owned()
            }
            Self::ReplyUnknown if copied => format!(
                "a copy of it lies among what was sent: `switchboard outbox settle {id} --as sent`"
            ),
            Self::ReplyUnknown => format!(
                "ask the provider or the customer whether it arrived, then `switchboard outbox settle {id} --as sent`, `--as refused` or `--as retry`"
            ),
            Self::ReplyLost => "write it again from its conversation".to_owned(),
            Self::ReplyLate => format!(
                "look at outbound:{channel} in /readyz and at `switchboard outbox list --channel {channel}`"
            ),
            Self::NoCopy => {
                "ask the customer whether it arrived; somebody may have deleted the copy".to_owned()
            }
        }
    }
}

/// One gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    pub kind: GapKind,
    /// `None`: nobody can tell any more.
    #[schema(required, example = "support-mail")]
    pub channel: Option<String>,
    /// How the provider calls it.
    #[schema(required, example = "INBOX, UID 41")]
    pub provider_id: Option<String>,
    /// Its Message-ID, where it has one.
    #[schema(required)]
    pub message_id: Option<String>,
    /// The record, or the message that it became or is.
    #[schema(required)]
    pub id: Option<String>,
    #[schema(required)]
    pub conversation_id: Option<String>,
    /// When the provider got it, or it was accepted.
    #[schema(required)]
    pub at: Option<Timestamp>,
    /// More, for a person.
    #[schema(required)]
    pub reason: Option<String>,
    /// What to do.
    pub next: String,
}
