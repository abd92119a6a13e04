//! The world outside: what customers say and providers deliver again, what agents write, and what arrived.

use std::sync::OnceLock;

use connector_api::{DeliveryStage, InboundEvent};
use switchboard::ids::{ConversationId, MessageId};

use super::world::{CHAT, MAIL};
use crate::support::{Said, chat, delete, edit, mail, receipt};

pub const CUSTOMERS: usize = 5;
pub const AGENTS: [&str; 3] = ["ada", "bob", "cleo"];
/// Larger than what is kept in the database.
const FILE_BYTES: usize = 70_000;
const FILES: usize = 3;
const PHRASES: [&str; 5] = [
    "Where is my order?",
    "I want my money back.",
    "The parcel arrived broken.",
    "Hello?",
    "Can I return this?",
];

/// Something that a provider delivers until it is told that it was taken, and then perhaps again.
pub struct Saying {
    pub channel: &'static str,
    pub customer: usize,
    pub event: InboundEvent,
    pub what: What,
    /// When it was first told so; UTC microseconds.
    pub accepted_at: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Message { file: Option<usize> },
    Edit { of: usize },
    Delete { of: usize },
    Receipt,
}

/// What an agent wrote.
pub struct Reply {
    pub conversation: ConversationId,
    pub agent: usize,
    pub text: String,
    pub heard: Heard,
    /// Under which it left.
    pub message: Option<MessageId>,
    pub channel: Option<&'static str>,
    /// How often the customer has it.
    pub arrived: usize,
    /// How often a person had it sent again.
    pub again: usize,
}

/// What the agent was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Nothing,
    Accepted,
    Refused,
}

#[derive(Default)]
pub struct Shop {
    pub sayings: Vec<Saying>,
    pub replies: Vec<Reply>,
    /// Of the mailbox, in its order.
    pub mailbox: Vec<usize>,
}

pub fn chat_name(customer: usize) -> String {
    format!("cust-{customer}")
}

pub fn address(customer: usize) -> String {
    format!("customer-{customer}@example.com")
}

/// The customer of an address.
pub fn customer_of(known_as: &str) -> Option<usize> {
    (0..CUSTOMERS).find(|one| known_as == chat_name(*one) || known_as == address(*one))
}

/// The bytes of a file.
pub fn file(number: usize) -> &'static [u8] {
    static ALL: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let made = |number: usize| vec![b'a' + number as u8; FILE_BYTES];
    &ALL.get_or_init(|| (0..FILES).map(made).collect())[number % FILES]
}

/// How a message begins: its number.
pub fn nonce(text: &str) -> Option<usize> {
    text.split(' ').next()?.strip_prefix('n')?.parse().ok()
}

pub fn text_of(saying: usize, edited: bool) -> String {
    match edited {
        true => format!("n{saying} Better said."),
        false => format!("n{saying} {}", PHRASES[saying % PHRASES.len()]),
    }
}

impl Shop {
    /// The customer's next message on a channel, or the one that is still to be taken: nobody writes on before.
    pub fn say(&mut self, customer: usize, channel: &'static str, chance: u64) -> usize {
        let untaken = self.sayings.iter().position(|one| {
            let message = matches!(one.what, What::Message { .. });
            message
                && one.customer == customer
                && one.channel == channel
                && one.accepted_at.is_none()
        });
        if let Some(untaken) = untaken {
            return untaken;
        }
        let number = self.sayings.len();
        let text = text_of(number, false);
        let mut said = match channel {
            CHAT => chat(&chat_name(customer), &text),
            _ => mail(&address(customer), &text).message_id(&format!("<n{number}@example.com>")),
        };
        // The shop's chat vouches for the address.
        if channel == CHAT && chance.is_multiple_of(3) {
            said = said.with_email(&address(customer));
        }
        let file = (chance.is_multiple_of(5)).then_some(number);
        if let Some(number) = file {
            said = said.attachment("photo.jpg", self::file(number));
        }
        if channel == MAIL {
            self.mailbox.push(number);
        }
        self.push(said, customer, What::Message { file })
    }

    /// The customer changes a message, perhaps before it was delivered. Each is changed once.
    pub fn change(&mut self, of: usize, deleted: bool) -> Option<usize> {
        let message = self.sayings.get(of)?;
        let changed = self.sayings.iter().any(|one| {
            matches!(one.what, What::Edit { of: known } | What::Delete { of: known } if known == of)
        });
        if changed || message.channel != CHAT || !matches!(message.what, What::Message { .. }) {
            return None;
        }
        let customer = message.customer;
        let target = format!("n{of}");
        Some(match deleted {
            true => self.push(delete(&target), customer, What::Delete { of }),
            false => {
                let said = edit(&target, &text_of(of, true));
                self.push(said, customer, What::Edit { of })
            }
        })
    }

    /// The provider says how far a reply got.
    pub fn receipt(&mut self, reply: usize, stage: DeliveryStage) -> Option<usize> {
        let channel = self.replies.get(reply)?.channel?;
        let said = receipt(&provider_id(reply), stage).on(channel);
        Some(self.push(said, 0, What::Receipt))
    }

    fn push(&mut self, said: Said, customer: usize, what: What) -> usize {
        let number = self.sayings.len();
        let said = said.key(&format!("n{number}"));
        self.sayings.push(Saying {
            channel: said.channel,
            customer,
            event: said.event,
            what,
            accepted_at: None,
        });
        number
    }

    /// Messages, edits and so on that nobody was told of that they were taken, of what is pushed.
    pub fn untaken(&self) -> Vec<usize> {
        let untaken = |number: &usize| {
            let one = &self.sayings[*number];
            let polled = one.channel == MAIL && matches!(one.what, What::Message { .. });
            one.accepted_at.is_none() && !polled
        };
        (0..self.sayings.len()).filter(untaken).collect()
    }

    /// The reply of a text.
    pub fn reply_of(&self, text: &str) -> Option<usize> {
        self.replies.iter().position(|reply| reply.text == text)
    }
}

/// Under which the provider knows a reply.
pub fn provider_id(reply: usize) -> String {
    format!("p-{reply}")
}
