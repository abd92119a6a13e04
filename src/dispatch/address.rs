//! Where an answer goes: to whoever is answered, and to whom else its writer names. Pure; frozen
//! with the answer, so that whatever is merged or moved later, it goes where it was written for.

use connector_api::{Namespace, Recipient};
use serde::{Deserialize, Serialize};

use crate::ids::MessageId;
use crate::router::facts::{Conversation, Participant, Role};
use crate::router::file::PARTICIPANTS_MAX;
use crate::subject;

use super::Refusal;

/// A frozen destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    pub namespace: Namespace,
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Who gets it beside the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_to: Vec<Recipient>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<Recipient>,
    /// Hidden from the others, and no participants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bcc: Vec<Recipient>,
    /// The customer's message that it answers: where that goes by surgery, the answer goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<MessageId>,
}

impl Destination {
    /// To one, who wrote nothing that is answered.
    pub fn of(to: Recipient) -> Self {
        Self {
            namespace: to.namespace,
            address: to.address,
            name: to.name,
            thread: None,
            subject: None,
            references: Vec::new(),
            also_to: Vec::new(),
            cc: Vec::new(),
            bcc: Vec::new(),
            answers: None,
        }
    }

    /// The first of whom it goes to.
    pub fn first(&self) -> Recipient {
        Recipient {
            namespace: self.namespace.clone(),
            address: self.address.clone(),
            name: self.name.clone(),
        }
    }

    pub fn recipients_len(&self) -> usize {
        1 + self.also_to.len() + self.cc.len() + self.bcc.len()
    }
}

/// The message that is answered: whom an answer goes to when its writer names nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// `None` where no customer wrote anything.
    pub message: Option<MessageId>,
    pub to: Recipient,
    /// Who else was on it (To and Cc), without us.
    pub others: Vec<Recipient>,
    pub thread: Option<String>,
    /// Ids of the conversation on this channel, oldest first.
    pub references: Vec<String>,
}

/// Whom the writer of an answer names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Named {
    /// Instead of whoever is answered.
    pub to: Vec<Recipient>,
    pub cc: Vec<Recipient>,
    pub bcc: Vec<Recipient>,
    /// Everybody who was on the message that is answered gets a copy.
    pub reply_all: bool,
}

/// The subject that an answer has.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// Its writer gave it.
    Given(String),
    /// The conversation's: by mail an answer says that it is one.
    Known(Option<String>),
}

/// Where an answer goes. Nobody is added who is not named: not the other recipients of what is
/// answered unless `reply_all` says so, and never a participant for being one.
pub fn destination(
    answered: Option<Answered>,
    named: Named,
    subject: Subject,
) -> Result<Destination, Refusal> {
    let nobody = || Refusal::NotAnswerable {
        reason: "no customer's message to answer".to_owned(),
    };
    if named.reply_all && !named.to.is_empty() {
        return Err(Refusal::Unusable {
            field: "reply_all",
            reason: "\"reply_all\" answers everybody who was on the message: name nobody in \"to\""
                .to_owned(),
        });
    }
    let mut to = named.to.into_iter();
    let mut made = match (to.next(), answered) {
        (Some(first), Some(answered)) => Destination {
            // Another person's thread is nobody else's.
            thread: answered.thread.filter(|_| same(&first, &answered.to)),
            references: answered.references,
            answers: answered.message,
            ..Destination::of(first)
        },
        (Some(first), None) => Destination::of(first),
        (None, Some(answered)) => Destination {
            thread: answered.thread,
            references: answered.references,
            answers: answered.message,
            cc: match named.reply_all {
                true => answered.others,
                false => Vec::new(),
            },
            ..Destination::of(answered.to)
        },
        (None, None) => return Err(nobody()),
    };
    made.subject = match subject {
        Subject::Given(given) => Some(given),
        Subject::Known(known) if made.answers.is_some() => {
            subject::of_answer(&made.namespace, known)
        }
        // Before the customer wrote there is nothing that it answers.
        Subject::Known(known) => known,
    };
    made.also_to = to.collect();
    made.cc.extend(named.cc);
    made.bcc = named.bcc;
    name_each_once(&mut made);
    Ok(made)
}

/// Takes the recipients of an answer into the conversation: what they answer belongs there. Those
/// of a blind copy do not: nobody is to see them.
pub fn take_part(conversation: &mut Conversation, to: &Destination) -> Result<(), Refusal> {
    let first = to.first();
    let visible = std::iter::once((&first, Role::To))
        .chain(to.also_to.iter().map(|also| (also, Role::To)))
        .chain(to.cc.iter().map(|copy| (copy, Role::Cc)));
    for (recipient, role) in visible {
        add_participant(conversation, recipient, role)?;
    }
    Ok(())
}

/// Adds one participant; says whether it is new.
pub fn add_participant(
    conversation: &mut Conversation,
    recipient: &Recipient,
    role: Role,
) -> Result<bool, Refusal> {
    if conversation.has_participant(&recipient.namespace, &recipient.address) {
        return Ok(false);
    }
    let participants = &mut conversation.detail.participants;
    if participants.len() >= PARTICIPANTS_MAX {
        return Err(Refusal::Unusable {
            field: "to",
            reason: format!("a conversation has at most {PARTICIPANTS_MAX} participants"),
        });
    }
    participants.push(Participant {
        namespace: recipient.namespace.clone(),
        address: recipient.address.clone(),
        verified: false,
        role,
        name: recipient.name.clone(),
    });
    Ok(true)
}

/// Somebody to take part, as the channels of the brand read the address.
pub fn participant(
    named: &Recipient,
    read: impl IntoIterator<Item = Result<Recipient, String>>,
) -> Result<Recipient, Refusal> {
    let (mut reads, mut why) = (Vec::new(), None);
    for outcome in read {
        match outcome {
            Ok(read) if read.namespace == named.namespace => {
                let name = named.name.clone().or(read.name);
                return Ok(Recipient { name, ..read });
            }
            Ok(read) => reads.push(read.namespace.as_str().to_owned()),
            Err(reason) => why = why.or(Some(reason)),
        }
    }
    reads.sort();
    reads.dedup();
    Err(Refusal::Unreachable {
        address: named.address.clone(),
        namespace: named.namespace.clone(),
        reads,
        why,
    })
}

fn same(left: &Recipient, right: &Recipient) -> bool {
    left.namespace == right.namespace && left.address == right.address
}

/// Whoever is named twice is kept where they are seen best: to, then copy, then blind copy.
fn name_each_once(made: &mut Destination) {
    let mut seen = vec![made.first()];
    for list in [&mut made.also_to, &mut made.cc, &mut made.bcc] {
        list.retain(|recipient| {
            let new = !seen.iter().any(|known| same(known, recipient));
            if new {
                seen.push(recipient.clone());
            }
            new
        });
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn mail(address: &str) -> Recipient {
        Recipient {
            namespace: Namespace::email(),
            address: address.to_owned(),
            name: None,
        }
    }

    fn mails(addresses: &[&str]) -> Vec<Recipient> {
        addresses.iter().map(|address| mail(address)).collect()
    }

    fn answered() -> Answered {
        Answered {
            message: None,
            to: mail("ada@example.com"),
            others: mails(&["bob@example.com", "eve@example.com"]),
            thread: Some("t-1".to_owned()),
            references: vec!["a-1@x".to_owned()],
        }
    }

    fn check(answered: Option<Answered>, named: Named, expected: Expect) {
        let list = |all: &[Recipient]| {
            let all: Vec<_> = all.iter().map(|one| one.address.as_str()).collect();
            all.join(" ")
        };
        let shown = match destination(answered, named, Subject::Known(Some("Order 17".to_owned())))
        {
            Ok(to) => format!(
                "{} | to {} {} | cc {} | bcc {} | thread {} | references {}",
                to.subject.as_deref().unwrap_or("-"),
                to.address,
                list(&to.also_to),
                list(&to.cc),
                list(&to.bcc),
                to.thread.as_deref().unwrap_or("-"),
                to.references.join(" ")
            ),
            Err(refusal) => refusal.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn an_answer_goes_to_whoever_is_answered_and_to_nobody_else_unasked() {
        check(
            Some(answered()),
            Named::default(),
            expect!["Order 17 | to ada@example.com  | cc  | bcc  | thread t-1 | references a-1@x"],
        );
    }

    #[test]
    fn an_answer_by_mail_says_so_in_its_subject_unless_its_writer_gave_one() {
        let subject_of = |message: Option<i64>, subject: Subject| {
            let answered = Answered {
                message: message.map(MessageId),
                ..answered()
            };
            let made = destination(Some(answered), Named::default(), subject);
            made.unwrap().subject
        };
        let known = |subject: &str| Subject::Known(Some(subject.to_owned()));
        let given = Subject::Given("Order 17".to_owned());
        for (message, subject, expected) in [
            (Some(1), known("Order 17"), Some("Re: Order 17")),
            (Some(1), known("AW: Order 17"), Some("AW: Order 17")),
            (Some(1), Subject::Known(None), None),
            (Some(1), given, Some("Order 17")),
            // We began, and nobody answered yet.
            (None, known("Order 17"), Some("Order 17")),
        ] {
            let made = subject_of(message, subject.clone());
            assert_eq!(made.as_deref(), expected, "{subject:?}");
        }
    }

    #[test]
    fn reply_all_copies_everybody_who_was_on_the_message() {
        let named = Named {
            cc: mails(&["bob@example.com", "carl@example.com"]),
            bcc: mails(&["ada@example.com", "boss@shop.example"]),
            reply_all: true,
            ..Named::default()
        };
        check(
            Some(answered()),
            named,
            expect![
                "Order 17 | to ada@example.com  | cc bob@example.com eve@example.com carl@example.com | bcc boss@shop.example | thread t-1 | references a-1@x"
            ],
        );
    }

    #[test]
    fn whoever_is_named_takes_the_place_of_whoever_is_answered_and_not_their_thread() {
        let named = Named {
            to: mails(&["partner@parcel.example", "second@parcel.example"]),
            ..Named::default()
        };
        check(
            Some(answered()),
            named.clone(),
            expect![
                "Order 17 | to partner@parcel.example second@parcel.example | cc  | bcc  | thread - | references a-1@x"
            ],
        );
        check(
            None,
            named.clone(),
            expect![
                "Order 17 | to partner@parcel.example second@parcel.example | cc  | bcc  | thread - | references "
            ],
        );
        let both = Named {
            reply_all: true,
            ..named
        };
        check(
            Some(answered()),
            both,
            expect![[
                r#""reply_all" answers everybody who was on the message: name nobody in "to""#
            ]],
        );
        check(
            None,
            Named::default(),
            expect![
                "no channel of this conversation can be answered: no customer's message to answer"
            ],
        );
    }
}
