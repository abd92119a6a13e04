//! Random days of a desk against a model of it: the model keeps lists of messages, knows what each
//! hangs on, and says where everything is after any operation and any undo.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use switchboard::dispatch::surgery::Refused;
use switchboard::dispatch::{Action, Refusal};
use switchboard::ids::{ContactId, ConversationId, MessageId};
use switchboard::store::surgery::{Operated, OperationKind, Order};
use switchboard::store::{StoreError, StoredContent};

use super::state::State;
use crate::support::{Desk, Said, chat, mail, supervisor};

/// What happens next. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    /// A customer writes to nothing in particular; a forward opens another conversation.
    Say {
        who: usize,
        forward: bool,
    },
    /// A customer answers by the token of a conversation that there ever was.
    ByToken {
        conversation: usize,
    },
    /// A customer answers a message that there is.
    ByReference {
        message: usize,
    },
    Reply {
        conversation: usize,
    },
    Note {
        conversation: usize,
    },
    Resolve {
        conversation: usize,
    },
    Claim,
    Merge {
        from: usize,
        into: usize,
    },
    Split {
        conversation: usize,
        picks: Vec<bool>,
    },
    Move {
        message: usize,
        to: usize,
    },
    MergeContacts {
        from: usize,
        into: usize,
    },
    Undo {
        operation: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..64usize;
    prop_oneof![
        3 => (0..3usize, prop::bool::weighted(0.4)).prop_map(|(who, forward)| Step::Say { who, forward }),
        3 => n.clone().prop_map(|conversation| Step::ByToken { conversation }),
        3 => n.clone().prop_map(|message| Step::ByReference { message }),
        3 => n.clone().prop_map(|conversation| Step::Reply { conversation }),
        1 => n.clone().prop_map(|conversation| Step::Note { conversation }),
        1 => n.clone().prop_map(|conversation| Step::Resolve { conversation }),
        1 => Just(Step::Claim),
        4 => (n.clone(), n.clone()).prop_map(|(from, into)| Step::Merge { from, into }),
        3 => (n.clone(), prop::collection::vec(any::<bool>(), 1..6))
            .prop_map(|(conversation, picks)| Step::Split { conversation, picks }),
        3 => (n.clone(), n.clone()).prop_map(|(message, to)| Step::Move { message, to }),
        1 => (0..3usize, 0..3usize).prop_map(|(from, into)| Step::MergeContacts { from, into }),
        6 => n.prop_map(|operation| Step::Undo { operation }),
    ]
}

/// What a message hangs on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hang {
    On(MessageId),
    Token(ConversationId),
    Nothing,
}

#[derive(Debug, Clone)]
struct Known {
    hang: Hang,
    /// When it was heard of; the order of everything.
    at: usize,
    who: Option<usize>,
    key: String,
}

/// An operation that was done, with what it changed.
#[derive(Debug, Clone)]
struct Done {
    event: i64,
    kind: OperationKind,
    one: i64,
    other: i64,
    /// The messages that changed sides.
    given: BTreeSet<MessageId>,
    /// Both lists before.
    before: [Vec<MessageId>; 2],
    /// Messages known at the time.
    known: usize,
    undoes: Option<usize>,
    undone: bool,
    /// Of contacts: the conversations that went along.
    conversations: BTreeSet<ConversationId>,
    customers: BTreeSet<usize>,
}

/// Where everything is.
#[derive(Default)]
struct Model {
    lists: BTreeMap<ConversationId, Vec<MessageId>>,
    contacts: BTreeMap<ConversationId, ContactId>,
    merged: BTreeMap<ConversationId, ConversationId>,
    messages: BTreeMap<MessageId, Known>,
    /// Whose each customer's identity is.
    customers: BTreeMap<usize, ContactId>,
    done: Vec<Done>,
    /// What happened how often: a test of days on which nothing happens would test nothing.
    happened: BTreeMap<String, usize>,
}

impl Model {
    fn happens(&mut self, what: impl Into<String>) {
        *self.happened.entry(what.into()).or_default() += 1;
    }

    fn live(&self) -> Vec<ConversationId> {
        let all = self.lists.keys().copied();
        all.filter(|id| !self.merged.contains_key(id)).collect()
    }

    fn home(&self, message: MessageId) -> ConversationId {
        let mut lists = self.lists.iter();
        let found = lists.find(|(_, list)| list.contains(&message));
        *found.expect("every message is somewhere").0
    }

    fn stands_for(&self, mut id: ConversationId) -> ConversationId {
        while let Some(into) = self.merged.get(&id) {
            id = *into;
        }
        id
    }

    fn by_arrival(&self, messages: impl IntoIterator<Item = MessageId>) -> Vec<MessageId> {
        let mut all: Vec<MessageId> = messages.into_iter().collect();
        all.sort_by_key(|id| self.messages[id].at);
        all
    }

    /// Those of a list that came since `known`, and the rest.
    fn since(&self, of: ConversationId, known: usize) -> Vec<MessageId> {
        let list = self.lists[&of].iter().copied();
        list.filter(|id| self.messages[id].at >= known).collect()
    }

    /// The closure of what hangs on what goes back.
    fn followers(
        &self,
        given: &BTreeSet<MessageId>,
        home: ConversationId,
        since: &[MessageId],
    ) -> BTreeSet<MessageId> {
        let mut following = BTreeSet::new();
        for id in since {
            let follows = match self.messages[id].hang {
                Hang::On(on) => given.contains(&on) || following.contains(&on),
                Hang::Token(named) => named == home,
                Hang::Nothing => false,
            };
            if follows {
                following.insert(*id);
            }
        }
        following
    }

    fn apply(&mut self, mut done: Done) {
        let [one, other] = [done.one, done.other].map(ConversationId);
        let list = |id: ConversationId| self.lists.get(&id).cloned().unwrap_or_default();
        done.before = [list(one), list(other)];
        done.known = self.messages.len();
        match done.kind {
            OperationKind::Merge => {
                done.given = done.before[0].iter().copied().collect();
                self.lists.insert(one, Vec::new());
                self.merged.insert(one, other);
            }
            OperationKind::Split | OperationKind::Move => {
                self.merged.remove(&other);
                let stay = done.before[0].iter().copied();
                let stay = stay.filter(|id| !done.given.contains(id)).collect();
                self.lists.insert(one, stay);
                if !self.contacts.contains_key(&other) {
                    self.contacts.insert(other, self.contacts[&one]);
                }
            }
            OperationKind::MergeContacts => {
                let (from, into) = (ContactId(done.one), ContactId(done.other));
                for (id, contact) in &mut self.contacts {
                    if *contact == from {
                        *contact = into;
                        done.conversations.insert(*id);
                    }
                }
                for (who, contact) in &mut self.customers {
                    if *contact == from {
                        *contact = into;
                        done.customers.insert(*who);
                    }
                }
                return self.done.push(done);
            }
            OperationKind::Undo => unreachable!("undone elsewhere"),
        }
        let together = done.before[1].iter().chain(&done.given).copied();
        let together = self.by_arrival(together);
        self.lists.insert(other, together);
        self.done.push(done);
    }

    /// The event that has to be undone before this one; conversations by conversations that they
    /// share, contacts by conversations of both sides that were operated on together.
    fn first(&self, at: usize) -> Option<i64> {
        let this = &self.done[at];
        let later = self.done.iter().skip(at + 1);
        let later = later.filter(|one| !one.undone && one.kind != OperationKind::Undo);
        let original = this.undoes.map(|of| self.done[of].kind);
        if original == Some(OperationKind::MergeContacts) {
            return None;
        }
        if this.kind == OperationKind::MergeContacts {
            let back = self.goes_back(at);
            let ids = |one: &Done| [one.one, one.other].map(ConversationId);
            let (contacts, conversations): (Vec<&Done>, Vec<&Done>) =
                later.partition(|one| one.kind == OperationKind::MergeContacts);
            let on = contacts.iter().rev().find(|one| one.one == this.other);
            let spans = conversations.iter().rev().find(|one| {
                let [one, other] = ids(one).map(|id| back.contains(&id));
                one != other
            });
            return on.or(spans).map(|one| one.event);
        }
        let shares = |one: &&Done| {
            one.kind != OperationKind::MergeContacts
                && [one.one, one.other]
                    .iter()
                    .any(|id| [this.one, this.other].contains(id))
        };
        later.filter(shares).map(|one| one.event).max()
    }

    /// The conversations that an undo of a merge of contacts gives back.
    fn goes_back(&self, at: usize) -> BTreeSet<ConversationId> {
        let this = &self.done[at];
        let mut back = this.conversations.clone();
        let into = ContactId(this.other);
        for (id, contact) in &self.contacts {
            if *contact != into || back.contains(id) {
                continue;
            }
            let founder = self.messages.get(&MessageId(id.0));
            let whose = founder.and_then(|founder| founder.who);
            let founded = founder.is_some_and(|founder| founder.at >= this.known)
                && whose.is_some_and(|who| this.customers.contains(&who));
            let split = self.done.iter().find(|one| {
                one.kind == OperationKind::Split && one.other == id.0 && one.event > this.event
            });
            if founded || split.is_some_and(|one| back.contains(&ConversationId(one.one))) {
                back.insert(*id);
            }
        }
        back
    }

    fn undo(&mut self, at: usize, event: i64) {
        let this = self.done[at].clone();
        let [one, other] = [this.one, this.other].map(ConversationId);
        let mut back = BTreeSet::new();
        match this.kind {
            OperationKind::Merge | OperationKind::Move => {
                let since = self.since(other, this.known);
                let following = self.followers(&this.given, one, &since);
                if !following.is_empty() {
                    self.happens("came since and went back");
                }
                if following.len() < since.len() {
                    self.happens("came since and stayed");
                }
                let own = self.since(one, this.known);
                let [mut from, mut to] = this.before.clone();
                from.extend(own.iter().chain(&following));
                to.extend(since.iter().filter(|id| !following.contains(id)));
                self.merged.remove(&one);
                for (id, list) in [(one, from), (other, to)] {
                    let list = self.by_arrival(list);
                    self.lists.insert(id, list);
                }
            }
            OperationKind::Split => {
                back = self.lists[&other].iter().copied().collect();
                let mut all = this.before[0].clone();
                all.extend(self.since(one, this.known));
                all.extend(self.since(other, this.known));
                let all = self.by_arrival(all);
                self.lists.insert(one, all);
                self.lists.insert(other, Vec::new());
                self.merged.insert(other, one);
            }
            OperationKind::MergeContacts => {
                for id in self.goes_back(at) {
                    self.contacts.insert(id, ContactId(this.one));
                }
                for who in &this.customers {
                    self.customers.insert(*who, ContactId(this.one));
                }
            }
            OperationKind::Undo => unreachable!("done again elsewhere"),
        }
        self.done[at].undone = true;
        self.done.push(Done {
            event,
            kind: OperationKind::Undo,
            given: back,
            undoes: Some(at),
            undone: false,
            ..this
        });
    }
}

/// A desk and the model of it.
struct Day {
    desk: Desk,
    model: Model,
    said: usize,
    /// Where each answer was written to go.
    written: BTreeMap<MessageId, String>,
    /// What was done, and where everything was then.
    told: Vec<String>,
}

impl Day {
    async fn new() -> Self {
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

    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
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

    async fn undo(&mut self, at: usize) -> Result<bool, TestCaseError> {
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
    async fn check(&self) -> Result<(), TestCaseError> {
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

/// Days of a run; each reads the whole store at every step, so a campaign of 10,000 is hours.
/// `SWITCHBOARD_SURGERY_DAYS` asks for more, `PROPTEST_RNG_SEED` for others.
fn cases() -> u32 {
    let asked = std::env::var("SWITCHBOARD_SURGERY_DAYS");
    let asked = asked.ok().and_then(|days| days.parse().ok());
    asked.unwrap_or(DAYS)
}

const DAYS: u32 = 40;

/// The seed of the days that every run goes through.
const SEED: u64 = 20_261_122;

/// What has to happen on some of the days, unless fewer of them were asked for.
const OPERATIONS: [&str; 8] = [
    "Merge",
    "Split",
    "Move",
    "MergeContacts",
    "undo Merge",
    "undo Split",
    "undo Move",
    "undo MergeContacts",
];

fn run(
    steps: impl Strategy<Value = Vec<Step>>,
    expected: &[&str],
    day: impl AsyncFn(&mut Day, Vec<Step>) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Config::default()
    };
    let config = Config {
        rng_seed: match config.rng_seed {
            RngSeed::Random => RngSeed::Fixed(SEED),
            asked => asked,
        },
        ..config
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let happened = Mutex::new(BTreeMap::<String, usize>::new());
    let ran = TestRunner::new(config).run(&steps, |steps| {
        runtime.block_on(async {
            let mut it = Day::new().await;
            let done = day(&mut it, steps).await;
            let mut happened = happened.lock().unwrap();
            for (what, count) in it.model.happened {
                *happened.entry(what).or_default() += count;
            }
            done
        })
    });
    if let Err(TestError::Fail(why, steps)) = ran {
        let told = runtime.block_on(async {
            let mut it = Day::new().await;
            drop(day(&mut it, steps).await);
            it.told
        });
        let last = told.len().saturating_sub(20);
        panic!("{why}\nafter\n{}", told[last..].join("\n"));
    }
    let happened = happened.into_inner().unwrap();
    for what in expected.iter().filter(|_| cases() >= DAYS) {
        assert!(
            happened.contains_key(*what),
            "{what} never happened: {happened:?}"
        );
    }
}

#[test]
fn whatever_is_said_and_operated_and_undone_everything_is_where_the_model_says() {
    let expected = [
        &OPERATIONS[..],
        &[
            "undo Undo",
            "undo Merge done",
            "undo Merge first",
            "undo Move first",
            "came since and went back",
            "came since and stayed",
        ],
    ];
    let steps = days();
    run(steps, &expected.concat(), async |day, steps| {
        for step in steps {
            day.step(step).await?;
        }
        Ok(())
    });
}

/// Days that begin with a few conversations.
fn days() -> impl Strategy<Value = Vec<Step>> {
    let begin = prop::collection::vec(
        (0..3usize).prop_map(|who| Step::Say { who, forward: true }),
        2..8,
    );
    (begin, prop::collection::vec(step(), 1..40)).prop_map(|(begin, rest)| [begin, rest].concat())
}

/// Days where first everything is said, then operated on.
fn operations() -> impl Strategy<Value = Vec<Step>> {
    let said = prop::collection::vec(
        step().prop_filter("said", |step| !is_operation(step)),
        4..24,
    );
    let done = prop::collection::vec(step().prop_filter("done", is_operation), 4..24);
    (said, done).prop_map(|(said, done)| [said, done].concat())
}

fn is_operation(step: &Step) -> bool {
    matches!(
        step,
        Step::Merge { .. }
            | Step::Split { .. }
            | Step::Move { .. }
            | Step::MergeContacts { .. }
            | Step::Undo { .. }
    )
}

#[test]
fn undoing_everything_gives_the_first_state_back_exactly() {
    run(operations(), &OPERATIONS, async |day, steps| {
        let mut first = None;
        for step in steps {
            if first.is_none() && is_operation(&step) {
                first = Some(State::read(day.desk.store().as_ref()).await.comparable());
            }
            day.step(step).await?;
        }
        // Backwards again and again: what another builds on is undone after it.
        loop {
            let standing = |at: &usize| {
                let this = &day.model.done[*at];
                !this.undone && this.kind != OperationKind::Undo
            };
            let Some(last) = (0..day.model.done.len()).rev().find(standing) else {
                break;
            };
            prop_assert!(day.undo(last).await?, "the last operation can be undone");
            day.check().await?;
        }
        let now = State::read(day.desk.store().as_ref()).await.comparable();
        prop_assert_eq!(first.unwrap_or_default(), now);
        Ok(())
    });
}
