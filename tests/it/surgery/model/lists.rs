//! The model: lists of messages, what each hangs on, and what was done to them.

use std::collections::{BTreeMap, BTreeSet};

use switchboard::ids::{ContactId, ConversationId, MessageId};
use switchboard::store::surgery::OperationKind;

/// What a message hangs on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Hang {
    On(MessageId),
    Token(ConversationId),
    Nothing,
}

#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) hang: Hang,
    /// When it was heard of; the order of everything.
    pub(super) at: usize,
    pub(super) who: Option<usize>,
    pub(super) key: String,
}

/// An operation that was done, with what it changed.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) event: i64,
    pub(super) kind: OperationKind,
    pub(super) one: i64,
    pub(super) other: i64,
    /// The messages that changed sides.
    pub(super) given: BTreeSet<MessageId>,
    /// Both lists before.
    pub(super) before: [Vec<MessageId>; 2],
    /// Messages known at the time.
    pub(super) known: usize,
    pub(super) undoes: Option<usize>,
    pub(super) undone: bool,
    /// Of contacts: the conversations that went along.
    pub(super) conversations: BTreeSet<ConversationId>,
    pub(super) customers: BTreeSet<usize>,
}

/// Where everything is.
#[derive(Default)]
pub(super) struct Model {
    pub(super) lists: BTreeMap<ConversationId, Vec<MessageId>>,
    pub(super) contacts: BTreeMap<ConversationId, ContactId>,
    pub(super) merged: BTreeMap<ConversationId, ConversationId>,
    pub(super) messages: BTreeMap<MessageId, Known>,
    /// Whose each customer's identity is.
    pub(super) customers: BTreeMap<usize, ContactId>,
    pub(super) done: Vec<Done>,
    /// What happened how often: a test of days on which nothing happens would test nothing.
    pub(super) happened: BTreeMap<String, usize>,
}

impl Model {
    pub(super) fn happens(&mut self, what: impl Into<String>) {
        *self.happened.entry(what.into()).or_default() += 1;
    }

    pub(super) fn live(&self) -> Vec<ConversationId> {
        let all = self.lists.keys().copied();
        all.filter(|id| !self.merged.contains_key(id)).collect()
    }

    pub(super) fn home(&self, message: MessageId) -> ConversationId {
        let mut lists = self.lists.iter();
        let found = lists.find(|(_, list)| list.contains(&message));
        *found.expect("every message is somewhere").0
    }

    pub(super) fn stands_for(&self, mut id: ConversationId) -> ConversationId {
        while let Some(into) = self.merged.get(&id) {
            id = *into;
        }
        id
    }

    pub(super) fn by_arrival(
        &self,
        messages: impl IntoIterator<Item = MessageId>,
    ) -> Vec<MessageId> {
        let mut all: Vec<MessageId> = messages.into_iter().collect();
        all.sort_by_key(|id| self.messages[id].at);
        all
    }

    /// Those of a list that came since `known`, and the rest.
    pub(super) fn since(&self, of: ConversationId, known: usize) -> Vec<MessageId> {
        let list = self.lists[&of].iter().copied();
        list.filter(|id| self.messages[id].at >= known).collect()
    }

    /// The closure of what hangs on what goes back.
    pub(super) fn followers(
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

    pub(super) fn apply(&mut self, mut done: Done) {
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
    pub(super) fn first(&self, at: usize) -> Option<i64> {
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
    pub(super) fn goes_back(&self, at: usize) -> BTreeSet<ConversationId> {
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

    pub(super) fn undo(&mut self, at: usize, event: i64) {
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
