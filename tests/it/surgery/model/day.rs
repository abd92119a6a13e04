//! A desk beside the model of it: every step is done to both.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use switchboard::dispatch::surgery::Refused;
use switchboard::dispatch::{Action, Refusal};
use switchboard::ids::{ContactId, ConversationId, MessageId};
use switchboard::store::surgery::{Operated, OperationKind, Order};
use switchboard::store::{StoreError, StoredContent};

use crate::support::{Desk, Said, chat, mail, supervisor};
use crate::surgery::state::State;

use super::Step;
use super::lists::{Done, Hang, Known, Model};

/// A desk and the model of it.
pub(super) struct Day {
    pub(super) desk: Desk,
    pub(super) model: Model,
    said: usize,
    /// Where each answer was written to go.
    written: BTreeMap<MessageId, String>,
    /// What was done, and where everything was then.
    pub(super) told: Vec<String>,
}

impl Day {
    pub(super) async fn new() -> Self {
        Self {
            desk: Desk::new().await,
            model: Model::default(),
            said: 0,
            written: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    fn order(&self) -> Order {
        Order {
            actor: supervisor(),
            version: None,
            other_version: None,
            idempotency: None,
            at: self.desk.now(),
        }
    }

    fn tell(&mut self, step: &Step) {
        let lists = self.model.lists.iter();
        let lists: Vec<String> = lists
            .map(|(id, list)| {
                let ids: Vec<i64> = list.iter().map(|id| id.0).collect();
                format!("{}{ids:?}", id.0)
            })
            .collect();
        let done = self.model.done.iter().filter(|one| !one.undone);
        let done: Vec<String> = done
            .map(|one| format!("{}:{:?} {}>{}", one.event, one.kind, one.one, one.other))
            .collect();
        let hangs: Vec<String> = (self.model.messages.iter())
            .map(|(id, known)| format!("{}@{}:{:?}", id.0, known.at, known.hang))
            .collect();
        let (lists, done, hangs) = (lists.join(" "), done.join(", "), hangs.join(" "));
        self.told
            .push(format!("{lists}\n  {done}\n  {hangs}\n{step:?}"));
    }

    /// The customers: one by mail, one by chat, one by mail at another shop's desk.
    fn customer(who: usize, text: &str) -> Said {
        match who {
            0 => mail("ada@example.com", text),
            1 => chat("cust-7", text),
            _ => mail("eve@example.com", text),
        }
    }

    /// Has a customer say something and learns where it went.
    async fn say(&mut self, who: usize, said: Said, hang: Hang) -> ConversationId {
        self.said += 1;
        let key = format!("k{}", self.said);
        let said = said.key(&key);
        let said = match who {
            1 => said.message_id(&key),
            _ => said.message_id(&format!("{key}@customer")),
        };
        self.desk.deliver([said]).await;
        let state = State::read(self.desk.store().as_ref()).await;
        let mut all = state.messages.values().flatten();
        let new = all.find(|one| !self.model.messages.contains_key(&one.id));
        let new = new.expect("it was filed");
        let contact = state.conversations[&new.conversation].contact;
        self.model.customers.entry(who).or_insert(contact);
        self.learn(new.id, new.conversation, contact, hang, Some(who), key);
        new.conversation
    }

    fn learn(
        &mut self,
        id: MessageId,
        conversation: ConversationId,
        contact: ContactId,
        hang: Hang,
        who: Option<usize>,
        key: String,
    ) {
        let at = self.model.messages.len();
        let known = Known { hang, at, who, key };
        self.model.messages.insert(id, known);
        self.model.lists.entry(conversation).or_default().push(id);
        self.model.contacts.entry(conversation).or_insert(contact);
    }

    pub(super) async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let live = self.model.live();
        let pick = |of: &[ConversationId], at: usize| (!of.is_empty()).then(|| of[at % of.len()]);
        let messages: Vec<MessageId> = self.model.messages.keys().copied().collect();
        let pick_message =
            |at: usize| (!messages.is_empty()).then(|| messages[at % messages.len()]);
        self.desk.later(std::time::Duration::from_secs(1));
        self.tell(&step);
        match step {
            Step::Say { who, forward } => {
                let text = format!("Something new, number {}.", self.said);
                let said = Self::customer(who, &text);
                let said = if forward { said.forward() } else { said };
                self.say(who, said, Hang::Nothing).await;
            }
            Step::ByToken { conversation } => {
                let all: Vec<ConversationId> = self.model.lists.keys().copied().collect();
                let Some(named) = pick(&all, conversation) else {
                    return Ok(());
                };
                let Some(who) = self.writer_of(named) else {
                    return Ok(());
                };
                let token = self.desk.keys.reply_tokens.mint(named);
                let said = Self::customer(who, &format!("By token, {}.", self.said)).token(&token);
                let stands = self.model.stands_for(named);
                let hang = if stands == named {
                    Hang::Nothing
                } else {
                    Hang::Token(named)
                };
                let went = self.say(who, said, hang).await;
                prop_assert_eq!(went, stands, "the token of {:?}", named);
            }
            Step::ByReference { message } => {
                let Some(on) = pick_message(message) else {
                    return Ok(());
                };
                let known = self.model.messages[&on].clone();
                let Some(who) = known.who else { return Ok(()) };
                let id = match who {
                    1 => known.key.clone(),
                    _ => format!("{}@customer", known.key),
                };
                let said =
                    Self::customer(who, &format!("About that, {}.", self.said)).refers_to(&id);
                let home = self.model.home(on);
                let went = self.say(who, said, Hang::On(on)).await;
                prop_assert_eq!(went, home, "a reference to {:?}", on);
            }
            Step::Reply { conversation } => {
                let Some(id) = pick(&live, conversation) else {
                    return Ok(());
                };
                self.reply(id).await?;
            }
            Step::Note { conversation } => {
                let Some(id) = pick(&live, conversation) else {
                    return Ok(());
                };
                let note = self.desk.reply_to(id, supervisor(), "For us.");
                let (note, of) = self.desk.store().note(note).await.unwrap();
                self.learn(note.id, id, of.contact, Hang::Nothing, None, String::new());
            }
            Step::Resolve { conversation } => {
                let Some(id) = pick(&live, conversation) else {
                    return Ok(());
                };
                let now = self.desk.now();
                let resolve = Action::Resolve;
                drop(
                    self.desk
                        .store()
                        .act(id, supervisor(), resolve, None, now)
                        .await,
                );
            }
            Step::Claim => drop(self.desk.claim("frontline", supervisor()).await),
            Step::Merge { from, into } => {
                let Some(from) = pick(&live, from) else {
                    return Ok(());
                };
                let into = self.beside(from, into);
                let order = self.order();
                let people = self.recipients(into).await;
                let done = self
                    .desk
                    .store()
                    .merge_conversations(from, into, order)
                    .await;
                let contact = |id| self.model.contacts[&id];
                match done {
                    Ok(done) => {
                        prop_assert_eq!(contact(from), contact(into));
                        prop_assert_eq!(self.recipients(into).await, people, "recipients");
                        self.did(&done, OperationKind::Merge, from.0, into.0, BTreeSet::new());
                    }
                    Err(refused) => refused_as(&refused, |refused| match refused {
                        Refused::Same => from == into,
                        Refused::AnotherContact => contact(from) != contact(into),
                        Refused::NotOpen { .. } => true,
                        _ => false,
                    })?,
                }
            }
            Step::Split {
                conversation,
                picks,
            } => {
                let Some(id) = pick(&live, conversation) else {
                    return Ok(());
                };
                let list = self.model.lists[&id].clone();
                let chosen = list.iter().zip(picks.iter().cycle());
                let given: BTreeSet<MessageId> = chosen
                    .filter(|(_, picked)| **picked)
                    .map(|(id, _)| *id)
                    .collect();
                if given.is_empty() {
                    return Ok(());
                }
                let named = given.iter().copied().collect();
                let done = self
                    .desk
                    .store()
                    .split_conversation(id, named, self.order())
                    .await;
                match done {
                    Ok(done) => {
                        let new = done.conversations[1].id;
                        self.did(&done, OperationKind::Split, id.0, new.0, given);
                    }
                    Err(refused) => refused_as(&refused, |refused| {
                        *refused == Refused::NothingLeft && given.len() == list.len()
                    })?,
                }
            }
            Step::Move { message, to } => {
                let Some(message) = pick_message(message) else {
                    return Ok(());
                };
                let from = self.model.home(message);
                let to = self.beside(from, to);
                let done = self
                    .desk
                    .store()
                    .move_message(message, to, self.order())
                    .await;
                let contact = |id| self.model.contacts[&id];
                match done {
                    Ok(done) => {
                        let given = BTreeSet::from([message]);
                        self.did(&done, OperationKind::Move, from.0, to.0, given);
                    }
                    Err(refused) => refused_as(&refused, |refused| match refused {
                        Refused::Same => from == to,
                        Refused::AnotherContact => contact(from) != contact(to),
                        Refused::NothingLeft => self.model.lists[&from].len() == 1,
                        _ => false,
                    })?,
                }
            }
            Step::MergeContacts { from, into } => {
                let contacts: BTreeSet<ContactId> = self.model.contacts.values().copied().collect();
                let contacts: Vec<ContactId> = contacts.into_iter().collect();
                if contacts.is_empty() {
                    return Ok(());
                }
                let [from, into] = [from, into].map(|at| contacts[at % contacts.len()]);
                let done = self
                    .desk
                    .store()
                    .merge_contacts(from, into, self.order())
                    .await;
                match done {
                    Ok(done) => {
                        let none = BTreeSet::new();
                        self.did(&done, OperationKind::MergeContacts, from.0, into.0, none);
                    }
                    Err(refused) => {
                        refused_as(&refused, |refused| {
                            *refused == Refused::Same && from == into
                        })?;
                    }
                }
            }
            Step::Undo { operation } => {
                // Mostly one that stands, sometimes any.
                let all = 0..self.model.done.len();
                let standing = |at: &usize| operation % 6 == 0 || !self.model.done[*at].undone;
                let choice: Vec<usize> = all.filter(standing).collect();
                if !choice.is_empty() {
                    self.undo(choice[operation % choice.len()]).await?;
                }
            }
        }
        self.check().await
    }

    /// Mostly another conversation of the same contact, sometimes any.
    fn beside(&self, id: ConversationId, at: usize) -> ConversationId {
        let live = self.model.live();
        let contact = self.model.contacts[&id];
        let other =
            |other: &&ConversationId| **other != id && self.model.contacts[*other] == contact;
        let others: Vec<ConversationId> = live.iter().filter(other).copied().collect();
        match others.is_empty() || at.is_multiple_of(8) {
            true => live[at % live.len()],
            false => others[at % others.len()],
        }
    }

    /// A customer who may answer by a conversation's token: who wrote the first thing there.
    fn writer_of(&self, named: ConversationId) -> Option<usize> {
        self.model.messages.get(&MessageId(named.0))?.who
    }

    async fn recipients(&self, id: ConversationId) -> Vec<String> {
        let found = self
            .desk
            .store()
            .participants(supervisor(), id)
            .await
            .unwrap();
        found.into_iter().map(|one| one.address).collect()
    }

    async fn reply(&mut self, id: ConversationId) -> Result<(), TestCaseError> {
        let reply = self.desk.reply_to(id, supervisor(), "Thank you.");
        let Ok((message, of)) = self.desk.store().reply(reply).await else {
            return Ok(());
        };
        // It answers the last thing a customer said.
        let list = self.model.lists[&id].iter().rev();
        let mut said = list.filter(|id| self.model.messages[*id].who.is_some());
        let hang = said.next().map_or(Hang::Nothing, |id| Hang::On(*id));
        self.written
            .insert(message.id, destination(&message.content));
        self.learn(message.id, id, of.contact, hang, None, String::new());
        Ok(())
    }

    fn did(
        &mut self,
        done: &Operated,
        kind: OperationKind,
        one: i64,
        other: i64,
        given: BTreeSet<MessageId>,
    ) {
        self.model.happens(format!("{kind:?}"));
        self.model.apply(Done {
            event: done.event,
            kind,
            one,
            other,
            given,
            before: Default::default(),
            known: 0,
            undoes: None,
            undone: false,
            conversations: BTreeSet::new(),
            customers: BTreeSet::new(),
        });
    }

    pub(super) async fn undo(&mut self, at: usize) -> Result<bool, TestCaseError> {
        let this = self.model.done[at].clone();
        let done = self.desk.store().undo(this.event, self.order()).await;
        let expected = match (this.undone, this.kind) {
            (true, _) => Some("done"),
            (false, _) => self.model.first(at).map(|_| "first"),
        };
        let outcome = expected.map_or("", |why| why);
        self.model
            .happens(format!("undo {:?} {outcome}", this.kind).trim());
        match (&done, expected) {
            (Ok(done), None) => match this.undoes {
                Some(original) => {
                    let original = self.model.done[original].clone();
                    let given = match original.kind {
                        OperationKind::Split => this.given.clone(),
                        _ => original.given.clone(),
                    };
                    let (one, other) = (original.one, original.other);
                    self.did(done, original.kind, one, other, given);
                    self.model.done[at].undone = true;
                }
                None => self.model.undo(at, done.event),
            },
            // Doing again is refused as doing is.
            (Err(StoreError::Refused(_)), None) if this.kind == OperationKind::Undo => {
                return Ok(false);
            }
            (Err(StoreError::Refused(Refusal::Surgery(refused))), Some(expected)) => {
                match refused {
                    Refused::AlreadyUndone { .. } => prop_assert_eq!(expected, "done"),
                    Refused::UndoFirst { event } => {
                        prop_assert_eq!(Some(*event), self.model.first(at));
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
                return Ok(false);
            }
            _ => prop_assert!(
                false,
                "{done:?} where {expected:?} was expected of {this:?}"
            ),
        }
        Ok(true)
    }

    /// The desk is as the model says.
    pub(super) async fn check(&self) -> Result<(), TestCaseError> {
        let state = State::read(self.desk.store().as_ref()).await;
        for (id, list) in &self.model.lists {
            let found: Vec<MessageId> = state.messages[id].iter().map(|one| one.id).collect();
            prop_assert_eq!(&found, list, "messages of {:?}", id);
            let conversation = &state.conversations[id];
            prop_assert_eq!(
                conversation.contact,
                self.model.contacts[id],
                "contact of {:?}",
                id
            );
            let merged = self.model.merged.get(id).copied();
            prop_assert_eq!(conversation.detail.merged_into, merged, "{:?}", id);
        }
        prop_assert_eq!(state.messages.len(), self.model.lists.len());
        for message in state.messages.values().flatten() {
            if let Some(to) = self.written.get(&message.id) {
                prop_assert_eq!(&destination(&message.content), to, "where an answer goes");
            }
        }
        Ok(())
    }
}

fn destination(content: &StoredContent) -> String {
    match content {
        StoredContent::Written(draft) => format!("{:?}", draft.to),
        other => panic!("an answer is written: {other:?}"),
    }
}

fn refused_as(
    error: &StoreError,
    fits: impl FnOnce(&Refused) -> bool,
) -> Result<(), TestCaseError> {
    let StoreError::Refused(Refusal::Surgery(refused)) = error else {
        return Err(TestCaseError::fail(format!("{error:?}")));
    };
    match fits(refused) {
        true => Ok(()),
        false => Err(TestCaseError::fail(format!("refused: {refused:?}"))),
    }
}
