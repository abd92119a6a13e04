//! A day: what happens next is chance, made of a seed. An operation is asked for, perhaps cut short, and what was heard of
//! it is noted; then the auditor looks.

use connector_api::Cursor;
use switchboard::dispatch::verbs::Verb;
use switchboard::dispatch::{Action, Actor};
use switchboard::ids::{ConversationId, MessageId};
use switchboard::store::{Leased, SettleAs, Settlement};

use super::auditor::Auditor;
use super::disk::{self, Loss};
use super::faults::Faults;
use super::shop::{AGENTS, Heard, Shop, What};
use super::world::{Op, Outcome, World};
use crate::support::{agent, random, supervisor};

/// Operations after which a photograph is taken at the latest.
const CUT_WITHIN: u64 = 14;
/// Turns of the runtime until a task whose answer is there has taken it.
const SETTLED_AFTER: usize = 16;

pub struct Day {
    pub world: World,
    pub shop: Shop,
    pub auditor: Auditor,
    pub faults: Faults,
    pub seed: u64,
    /// How far the mailbox was read by this process.
    pub polled: usize,
    /// What its lanes have in hand.
    pub in_hand: Vec<Leased>,
    /// Conversations that an agent has seen.
    pub known: Vec<ConversationId>,
    pub trace: Vec<String>,
}

/// What somebody wants.
#[derive(Debug, Clone)]
pub enum Want {
    Accept {
        channel: &'static str,
        sayings: Vec<usize>,
        /// How far the mailbox is read with it.
        polled: Option<usize>,
    },
    SaveCursor(usize),
    Route(usize),
    Claim(usize),
    End(usize, ConversationId, Action),
    Reopen(ConversationId),
    Snooze(usize, ConversationId, i64),
    Reply(usize),
    Lease(&'static str),
    Settle(MessageId, Settlement),
    SettleHeld(usize, MessageId, SettleAs),
    WakeDue,
    Sweep,
    Checkpoint,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Done,
    /// It is done, and whoever wanted it does not hear of it.
    Unheard,
    /// The process ends before this operation on the disk.
    Cut(Loss, u64),
}

impl Day {
    pub fn new(world: World, seed: u64) -> Self {
        Self {
            world,
            shop: Shop::default(),
            auditor: Auditor::default(),
            faults: Faults::default(),
            seed,
            polled: 0,
            in_hand: Vec::new(),
            known: Vec::new(),
            trace: Vec::new(),
        }
    }

    pub fn chance(&mut self) -> u64 {
        random(&mut self.seed)
    }

    /// One of so many.
    pub fn pick(&mut self, of: usize) -> usize {
        (self.chance() % of.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, many: usize) -> bool {
        self.pick(many) == 0
    }

    pub fn agent(&self, number: usize) -> Actor {
        agent(AGENTS[number])
    }

    /// One thing, by itself.
    pub async fn perform(&mut self, want: Want, fate: Fate) -> Result<(), String> {
        self.before(&want);
        let cut = match fate {
            Fate::Cut(loss, at) if self.world.has_disk() => Some((loss, at)),
            _ => None,
        };
        if let Some((loss, at)) = cut {
            let seed = self.chance();
            disk::photograph(loss, seed, at, &self.world.next_dir());
        }
        let asked = self.world.begin(self.op(&want)).await;
        let outcome = asked
            .await
            .map_err(|error| format!("{want:?} panicked: {error}"))?;
        let heard = match fate {
            Fate::Done => true,
            Fate::Unheard => {
                self.faults.count("answer lost");
                false
            }
            // Its answer came before the end, or did not.
            Fate::Cut(..) => cut.is_some() && !disk::state().taken,
        };
        self.after(&want, heard.then_some(outcome))?;
        match fate {
            Fate::Cut(loss, _) => self.crash(loss, !heard).await,
            Fate::Done | Fate::Unheard => Ok(()),
        }
    }

    /// Several at once: while the commit of the first waits for the disk, the others come, and are one commit. With
    /// `cut` the process ends while that one waits, or already while the first does.
    pub async fn together(&mut self, wants: Vec<Want>, cut: Option<Loss>) -> Result<(), String> {
        if !self.world.has_disk() {
            for want in wants {
                self.perform(want, Fate::Done).await?;
            }
            return Ok(());
        }
        disk::hold();
        let mut asked = Vec::new();
        for want in &wants {
            self.before(want);
            let (is_held, waiting) = (disk::state().held, self.world.jobs_waiting());
            let handle = self.world.begin(self.op(want)).await;
            // The first one that writes waits for the disk, the later ones for the writer.
            match is_held {
                false => until(|| handle.is_finished() || disk::state().held).await,
                true => until(|| handle.is_finished() || self.world.jobs_waiting() > waiting).await,
            }
            asked.push(handle);
            let micros = self.chance() % 2_000_000;
            self.world
                .clock
                .advance(std::time::Duration::from_micros(micros));
        }
        self.faults.count("slow disk");
        if cut.is_none() || self.one_in(2) {
            let ended = |one: &tokio::task::JoinHandle<_>| one.is_finished();
            let waits = asked.iter().position(|one| !one.is_finished());
            // A log that begins anew is synced once more before its first commit.
            while let Some(first) = waits
                .and_then(|first| asked.get(first))
                .filter(|one| !ended(one))
            {
                disk::step();
                until(|| ended(first) || disk::state().held).await;
            }
            until(|| asked.iter().all(ended) || disk::state().held).await;
            if disk::state().held {
                self.faults.count("several in one commit");
            }
        }
        let heard: Vec<bool> = asked
            .iter()
            .map(|one| cut.is_none() || one.is_finished())
            .collect();
        if let Some(loss) = cut {
            let seed = self.chance();
            disk::photograph(loss, seed, 0, &self.world.next_dir());
        }
        disk::release();
        for ((want, handle), heard) in wants.iter().zip(asked).zip(heard) {
            let outcome = handle
                .await
                .map_err(|error| format!("{want:?} panicked: {error}"))?;
            self.after(want, heard.then_some(outcome))?;
        }
        match cut {
            Some(loss) => {
                if loss == Loss::Power {
                    self.faults.count("power cut within a commit of several");
                }
                self.restart().await
            }
            None => Ok(()),
        }
    }

    /// The process ends between two things.
    pub async fn crash(&mut self, loss: Loss, within: bool) -> Result<(), String> {
        if self.world.has_disk() && !disk::state().taken {
            let seed = self.chance();
            disk::photograph(loss, seed, 0, &self.world.next_dir());
        }
        self.faults
            .count(match (loss, within && self.world.has_disk()) {
                (Loss::Kill, true) => "kill within an operation",
                (Loss::Power, true) => "power cut within an operation",
                (Loss::Power, false) if self.world.has_disk() => "power cut between operations",
                (_, false) => "kill between operations",
            });
        self.restart().await
    }

    async fn restart(&mut self) -> Result<(), String> {
        if self.world.has_disk() {
            let photograph = disk::state();
            self.faults.add("write dropped", photograph.dropped);
            self.faults.add("write torn", photograph.torn);
            self.faults.add("name undone", photograph.undone);
        }
        // What lanes had in hand may have arrived.
        for leased in std::mem::take(&mut self.in_hand) {
            self.faults.count("reply under way at a crash");
            if self.one_in(2) {
                self.arrives(&leased);
            }
        }
        self.world.restart().await;
        let cursor = self.world.cursor().await;
        let polled = cursor.and_then(|Cursor(value)| value.as_u64()).unwrap_or(0);
        self.polled = polled as usize;
        self.note(format!(
            "started again: position {}, cursor {polled}",
            self.world.ownership.position
        ));
        self.look().await
    }

    pub async fn look(&mut self) -> Result<(), String> {
        self.auditor.look(&self.world, &self.shop).await
    }

    pub fn note(&mut self, what: String) {
        self.trace.push(what);
    }

    /// A reply is at the customer's. The chat's provider knows what it has by its id.
    pub fn arrives(&mut self, leased: &Leased) {
        let Some(number) = self.shop.reply_of(&leased.draft.text) else {
            return;
        };
        let reply = &mut self.shop.replies[number];
        let idempotent = reply.channel == Some(super::world::CHAT);
        if !(idempotent && reply.message == Some(leased.id) && reply.arrived > 0) {
            reply.arrived += 1;
        }
        reply.message = Some(leased.id);
    }

    fn op(&self, want: &Want) -> Op {
        let world = &self.world;
        match want.clone() {
            Want::Accept {
                channel, sayings, ..
            } => {
                let event = |number: usize| self.shop.sayings[number].event.clone();
                Op::Accept(channel, sayings.into_iter().map(event).collect())
            }
            Want::SaveCursor(polled) => Op::SaveCursor(Cursor(polled.into())),
            Want::Route(batch_max) => Op::Route(batch_max),
            Want::Claim(by) => Op::Claim(self.agent(by)),
            Want::End(by, conversation, action) => Op::Act(conversation, self.agent(by), action),
            Want::Reopen(conversation) => Op::Act(conversation, supervisor(), Action::Reopen),
            Want::Snooze(by, conversation, until) => {
                Op::Perform(conversation, self.agent(by), Verb::Snooze { until })
            }
            Want::Reply(number) => {
                let reply = &self.shop.replies[number];
                let actor = self.agent(reply.agent);
                Op::Reply(Box::new(world.reply(
                    reply.conversation,
                    actor,
                    &reply.text,
                )))
            }
            Want::Lease(channel) => Op::Lease(channel),
            Want::Settle(message, settlement) => Op::Settle(message, settlement),
            Want::SettleHeld(_, message, outcome) => Op::SettleHeld(message, supervisor(), outcome),
            Want::WakeDue => Op::WakeDue,
            Want::Sweep => Op::Sweep,
            Want::Checkpoint => Op::Checkpoint,
        }
    }

    /// What is true as soon as somebody asks, whatever becomes of it.
    fn before(&mut self, want: &Want) {
        match want {
            // From now on it may not be theirs any more.
            Want::End(_, conversation, _) | Want::Snooze(_, conversation, _) => {
                self.auditor.held.remove(conversation);
            }
            Want::SettleHeld(number, _, SettleAs::Retry) => {
                self.shop.replies[*number].again += 1;
                self.faults.count("sent again by a person");
            }
            Want::Sweep => self.faults.count("sweep"),
            Want::Checkpoint => self.faults.count("checkpoint"),
            _ => {}
        }
    }

    /// What is known of it now. Failing is a broken promise: nothing of what happens here excuses it.
    fn after(&mut self, want: &Want, heard: Option<Result<Outcome, String>>) -> Result<(), String> {
        let outcome = match heard {
            None => {
                self.note(format!("{want:?} -> not heard"));
                return Ok(());
            }
            Some(Err(why)) => return Err(format!("{want:?} failed: {why}")),
            Some(Ok(outcome)) => outcome,
        };
        let now = self.world.clock.micros();
        let said = match outcome {
            Outcome::Refused(why) => {
                if let Want::Reply(number) = want {
                    self.shop.replies[*number].heard = Heard::Refused;
                }
                format!("refused: {why}")
            }
            Outcome::Routed(position) => {
                self.world.ownership.position = position;
                self.auditor.position = position;
                format!("decided through {position}")
            }
            Outcome::Claimed(None) => "nothing waits".to_owned(),
            Outcome::Claimed(Some(conversation)) => {
                if let Want::Claim(by) = want
                    && let Some(other) = self.auditor.held.insert(conversation.id, *by)
                {
                    return Err(format!(
                        "one holder: {} was given to {by} while {other} had it",
                        conversation.id.0
                    ));
                }
                if !self.known.contains(&conversation.id) {
                    self.known.push(conversation.id);
                }
                format!("conversation {}", conversation.id.0)
            }
            Outcome::Changed(conversation) => conversation.status.as_str().to_owned(),
            Outcome::Replied(message) => {
                if let Want::Reply(number) = want {
                    let reply = &mut self.shop.replies[*number];
                    reply.heard = Heard::Accepted;
                    reply.message = Some(message.id);
                    let on = [super::world::CHAT, super::world::MAIL];
                    reply.channel = on.into_iter().find(|on| *on == message.channel.as_str());
                }
                format!("message {}", message.id.0)
            }
            Outcome::Leased(leased) => {
                let said = format!("{} to send", leased.len());
                self.in_hand.extend(leased);
                said
            }
            Outcome::Done => {
                if let Want::Accept {
                    sayings, polled, ..
                } = want
                {
                    for number in sayings {
                        self.shop.sayings[*number].accepted_at.get_or_insert(now);
                    }
                    self.polled = polled.unwrap_or(self.polled);
                }
                "done".to_owned()
            }
        };
        self.note(format!("{want:?} -> {said}"));
        Ok(())
    }

    /// Where an operation is cut; files are written first, then the log.
    pub fn cut_at(&mut self, want: &Want) -> u64 {
        let has_file = |number: &usize| {
            let what = self.shop.sayings[*number].what;
            matches!(what, What::Message { file: Some(_) })
        };
        let files = match want {
            Want::Accept { sayings, .. } => sayings.iter().any(has_file),
            _ => false,
        };
        let within = if files { CUT_WITHIN / 3 } else { CUT_WITHIN };
        1 + self.chance() % within
    }
}

/// Waits for what other threads do, and nothing else; then for those who were answered on the way.
async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    for _ in 0..SETTLED_AFTER {
        tokio::task::yield_now().await;
    }
}
