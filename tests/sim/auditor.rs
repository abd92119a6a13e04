//! Keeps what was promised to whom, and looks whether it is so. It reads the store as a UI does, and believes nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use connector_api::Event;
use switchboard::conversation::{Delivery, Status};
use switchboard::ids::{ConversationId, MessageId};
use switchboard::router::effects::{Author, EventType};
use switchboard::router::facts::Conversation;
use switchboard::store::events::EventFilter;
use switchboard::store::{Store, StoredContent, StoredMessage};

use super::shop::{self, Heard, Shop, What};
use super::world::World;
use crate::support::supervisor;
use crate::surgery::state;

#[derive(Default)]
pub struct Auditor {
    /// Who was told that a conversation is theirs, and did nothing to end it.
    pub held: BTreeMap<ConversationId, usize>,
    /// Under which id each saying was seen; it is its name for ever.
    ids: BTreeMap<usize, MessageId>,
    deliveries: BTreeMap<usize, (MessageId, Delivery)>,
    /// Sayings that show that they were changed, and how.
    changed: BTreeSet<(usize, &'static str)>,
    /// The last event that was read, and the messages that events told of.
    pub event: i64,
    told: BTreeSet<MessageId>,
    /// The router's last commit that was heard of.
    pub position: i64,
    pub looks: usize,
}

/// The whole store, as it is read.
type Seen = Vec<(Conversation, Vec<StoredMessage>)>;

impl Auditor {
    pub fn delivery(&self, reply: usize) -> Option<Delivery> {
        self.deliveries.get(&reply).map(|(_, delivery)| *delivery)
    }

    /// A reply of which nobody knows whether it left.
    pub fn unknown(&self) -> Option<(usize, MessageId)> {
        let mut all = self.deliveries.iter();
        let unknown = all.find(|(_, (_, delivery))| *delivery == Delivery::Unknown);
        unknown.map(|(number, (id, _))| (*number, *id))
    }

    /// Whether a saying showed that it was `edited`, or `deleted`.
    pub fn is_changed(&self, saying: usize, how: &'static str) -> bool {
        self.changed.contains(&(saying, how))
    }

    /// Looks at everything. `Err` says which promise is broken.
    pub async fn look(&mut self, world: &World, shop: &Shop) -> Result<(), String> {
        self.looks += 1;
        self.events(world.store.as_ref()).await?;
        if world.ownership.position < self.position {
            return Err(format!(
                "order: the position went back from {} to {}",
                self.position, world.ownership.position
            ));
        }
        let seen = read(world.store.as_ref()).await;
        self.sayings(world, shop, &seen).await?;
        self.conversations(world, shop, &seen).await?;
        self.replies(shop, &seen)
    }

    /// Events come in the order of their numbers, and each message is told of once.
    async fn events(&mut self, store: &dyn Store) -> Result<(), String> {
        loop {
            let filter = EventFilter {
                limit: 500,
                ..EventFilter::default()
            };
            let page = store.events(self.event, filter).await;
            let page = page.map_err(|error| error.to_string())?;
            if page.through < self.event {
                return Err(format!("durable: event {} is gone", self.event));
            }
            for event in &page.events {
                if event.seq <= self.event {
                    return Err(format!("order: event {} after {}", event.seq, self.event));
                }
                self.event = event.seq;
                let message = event
                    .message
                    .filter(|_| event.kind == EventType::MessageCreated);
                if let Some(message) = message.filter(|message| !self.told.insert(*message)) {
                    return Err(format!(
                        "one effect: message {} is told of twice",
                        message.0
                    ));
                }
            }
            if page.events.is_empty() {
                return Ok(());
            }
        }
    }

    /// What was taken is there once, what was not said is not, and each customer's words are in order.
    async fn sayings(&mut self, world: &World, shop: &Shop, seen: &Seen) -> Result<(), String> {
        let mut found: BTreeMap<usize, &StoredMessage> = BTreeMap::new();
        for (conversation, messages) in seen {
            let mut newest: HashMap<&str, usize> = HashMap::new();
            for message in messages.iter().filter(|one| one.author == Author::Customer) {
                let number = number_of(message);
                let number = number.ok_or("nothing is invented: a message has no number")?;
                let saying = shop.sayings.get(number).ok_or("nothing is invented")?;
                if let Some(other) = found.insert(number, message) {
                    return Err(format!(
                        "one effect: n{number} is there twice, as {} and {}",
                        other.id.0, message.id.0
                    ));
                }
                let known = *self.ids.entry(number).or_insert(message.id);
                if known != message.id {
                    return Err(format!(
                        "durable: n{number} was message {} and is {}",
                        known.0, message.id.0
                    ));
                }
                if !self.told.contains(&message.id) {
                    return Err(format!("one effect: no event tells of n{number}"));
                }
                if message.explanation["join"]["rule"].is_null() {
                    return Err(format!("explain: nothing says why n{number} is there"));
                }
                let before = newest.insert(saying.channel, number);
                if let Some(before) = before.filter(|before| *before > number) {
                    return Err(format!(
                        "order: n{number} comes after n{before} in conversation {}",
                        conversation.id.0
                    ));
                }
                for (is, how) in [(message.edited, "edited"), (message.deleted, "deleted")] {
                    if is {
                        self.changed.insert((number, how));
                    }
                }
                self.said(world, shop, number, message).await?;
            }
        }
        if let Some(lost) = self.ids.keys().find(|number| !found.contains_key(number)) {
            return Err(format!("durable: n{lost} was there and is gone"));
        }
        let is_behind = world.is_behind().await;
        // What is accepted is decided once the router has caught up.
        let lost = (0..shop.sayings.len()).find(|number| {
            let saying = &shop.sayings[*number];
            let message = matches!(saying.what, What::Message { .. });
            message && saying.accepted_at.is_some() && !found.contains_key(number)
        });
        let lost = lost.filter(|_| !is_behind);
        match lost {
            Some(lost) => Err(format!("durable: n{lost} was accepted and is not there")),
            None => Ok(()),
        }
    }

    /// It says what was said, and its file can be read.
    async fn said(
        &self,
        world: &World,
        shop: &Shop,
        number: usize,
        message: &StoredMessage,
    ) -> Result<(), String> {
        let text = text_of(message);
        // Of what was deleted nothing can be read any more.
        if message.deleted {
            return Ok(());
        }
        if text != Some(&shop::text_of(number, message.edited)) {
            return Err(format!("one effect: n{number} says {text:?}"));
        }
        let What::Message { file: Some(file) } = shop.sayings[number].what else {
            return Ok(());
        };
        let stored = world.store.attachment(supervisor(), message.id, 0).await;
        let stored = stored.map_err(|error| error.to_string())?;
        let sha256 = stored.and_then(|stored| stored.standing.sha256);
        let sha256 = sha256.ok_or_else(|| format!("durable: the file of n{number} has no name"))?;
        let found = world
            .blobs
            .find(sha256)
            .await
            .map_err(|error| error.to_string())?;
        let found = found.ok_or_else(|| format!("durable: the file of n{number} is gone"))?;
        let bytes = found
            .read_at(0, u64::MAX)
            .await
            .map_err(|error| error.to_string())?;
        match bytes.as_ref() == shop::file(file) {
            true => Ok(()),
            false => Err(format!("durable: the file of n{number} is damaged")),
        }
    }

    /// One conversation of one customer and one matter, in one state, with one holder.
    async fn conversations(
        &mut self,
        world: &World,
        shop: &Shop,
        seen: &Seen,
    ) -> Result<(), String> {
        let mut open = BTreeSet::new();
        let mut waiting = 0;
        for (conversation, messages) in seen {
            let id = conversation.id.0;
            let seqs: Vec<i64> = messages.iter().map(|message| message.seq).collect();
            if seqs != (1..=seqs.len() as i64).collect::<Vec<_>>() {
                return Err(format!("order: conversation {id} is numbered {seqs:?}"));
            }
            let customers: BTreeSet<usize> = messages
                .iter()
                .filter_map(|message| shop::customer_of(&message.from.as_ref()?.address))
                .collect();
            if customers.len() > 1 {
                return Err(format!(
                    "nobody is merged: conversation {id} is of {customers:?}"
                ));
            }
            let alone = conversation.status.is_open() && conversation.matter.is_none();
            if alone && !open.insert(conversation.contact) {
                return Err(format!(
                    "one conversation per matter: contact {} has two open ones",
                    conversation.contact.0
                ));
            }
            waiting += i64::from(conversation.status == Status::Queued);
            let holder = conversation.assignee.as_deref();
            let fits = match conversation.status {
                Status::Assigned | Status::Wrapping => holder.is_some(),
                Status::New | Status::Queued => holder.is_none(),
                _ => true,
            };
            if !fits {
                return Err(format!(
                    "one holder: conversation {id} is {} and held by {holder:?}",
                    conversation.status.as_str()
                ));
            }
            let told = self
                .held
                .get(&conversation.id)
                .map(|agent| shop::AGENTS[*agent]);
            if told.is_some() && told != holder {
                return Err(format!(
                    "one holder: {id} was given to {told:?}, {holder:?} has it"
                ));
            }
            // Whoever was not told looks at their list.
            let is_work = matches!(conversation.status, Status::Assigned | Status::Pending);
            let agent = shop::AGENTS.iter().position(|name| Some(*name) == holder);
            if let Some(agent) = agent.filter(|_| is_work) {
                self.held.insert(conversation.id, agent);
            }
            self.replied(shop, messages, &customers)?;
        }
        let queues = world
            .store
            .queues(supervisor())
            .await
            .map_err(|error| error.to_string())?;
        let listed: i64 = queues.iter().map(|queue| queue.waiting).sum();
        match listed == waiting {
            true => Ok(()),
            false => Err(format!("one state: {waiting} are queued and {listed} wait")),
        }
    }

    /// Replies of a conversation go to its customer.
    fn replied(
        &self,
        shop: &Shop,
        messages: &[StoredMessage],
        customers: &BTreeSet<usize>,
    ) -> Result<(), String> {
        for message in messages {
            let StoredContent::Written(draft) = &message.content else {
                continue;
            };
            let number = shop
                .reply_of(&draft.text)
                .ok_or("nothing is invented: a reply")?;
            let to = draft
                .to
                .as_ref()
                .and_then(|to| shop::customer_of(&to.address));
            if to.is_none_or(|to| !customers.contains(&to)) {
                return Err(format!("r{number} is for {customers:?} and goes to {to:?}"));
            }
        }
        Ok(())
    }

    /// An accepted reply is there once, and what is known of it never becomes less.
    fn replies(&mut self, shop: &Shop, seen: &Seen) -> Result<(), String> {
        let mut found: BTreeMap<usize, &StoredMessage> = BTreeMap::new();
        for message in seen.iter().flat_map(|(_, messages)| messages) {
            let StoredContent::Written(draft) = &message.content else {
                continue;
            };
            let number = shop
                .reply_of(&draft.text)
                .ok_or("nothing is invented: a reply")?;
            if found.insert(number, message).is_some() {
                return Err(format!("one effect: r{number} is there twice"));
            }
        }
        for (number, reply) in shop.replies.iter().enumerate() {
            let stored = found.get(&number);
            if stored.is_none() && reply.heard == Heard::Accepted {
                return Err(format!("durable: r{number} was accepted and is not there"));
            }
            if stored.is_some() && reply.heard == Heard::Refused {
                return Err(format!("one effect: r{number} was refused and is there"));
            }
            let now = stored.and_then(|message| Some((message.id, message.delivery?)));
            if let Some((id, now)) = now {
                let before = self.deliveries.insert(number, (id, now));
                let before = before.map_or(now, |(_, before)| before);
                if goes_back(before, now) {
                    return Err(format!(
                        "outcomes: r{number} was {} and is {}",
                        before.as_str(),
                        now.as_str()
                    ));
                }
            }
            if reply.arrived > 1 + reply.again {
                return Err(format!(
                    "never silently twice: r{number} arrived {} times, {} wanted",
                    reply.arrived,
                    1 + reply.again
                ));
            }
        }
        Ok(())
    }
}

/// Whether less is known than before.
fn goes_back(before: Delivery, now: Delivery) -> bool {
    match before {
        Delivery::Read => now != Delivery::Read,
        Delivery::Delivered => !matches!(now, Delivery::Delivered | Delivery::Read),
        Delivery::Sent => matches!(
            now,
            Delivery::Queued | Delivery::Sending | Delivery::Unknown
        ),
        _ => false,
    }
}

async fn read(store: &dyn Store) -> Seen {
    let mut seen = Seen::new();
    for conversation in state::conversations(store).await {
        let messages = state::timeline(store, conversation.id).await;
        seen.push((conversation, messages));
    }
    seen
}

/// The number of a saying; what we wrote has none.
fn number_of(message: &StoredMessage) -> Option<usize> {
    match &message.content {
        StoredContent::Inbound { first, .. } => shop::nonce(first.event.dedupe_key.as_str()),
        StoredContent::Written(_) | StoredContent::Unreadable(_) => None,
    }
}

/// What a customer's message says now.
fn text_of(message: &StoredMessage) -> Option<&str> {
    let StoredContent::Inbound { first, edit } = &message.content else {
        return None;
    };
    match &edit.as_ref().unwrap_or(first).event.event {
        Event::Message(message) => Some(&message.text),
        Event::Edit { text, .. } => Some(text),
        _ => None,
    }
}
