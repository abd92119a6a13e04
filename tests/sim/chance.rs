//! What happens next.

use std::time::Duration;

use connector_api::DeliveryStage;
use switchboard::conversation::Delivery;
use switchboard::dispatch::Action;
use switchboard::store::{SettleAs, Settlement};

use super::day::{Day, Fate, Want};
use super::disk::Loss;
use super::shop::{AGENTS, CUSTOMERS, Heard, Reply, provider_id};
use super::world::{CHAT, MAIL};

pub const HOUR: Duration = Duration::from_secs(3600);
/// Within which a provider delivers again, with room for what the clock does: the horizon is 8 days.
const AGAIN_WITHIN_MICROS: i64 = 6 * 24 * 3600 * 1_000_000;
/// Within which an agent asks again under a key: it is kept for 72 hours.
const JUMP_MAX: Duration = HOUR.saturating_mul(40);
pub const BATCH_MAX: usize = 8;

impl Day {
    /// One step of the safety phase.
    pub async fn step(&mut self) -> Result<(), String> {
        let micros = 1_000 + self.chance() % 3_000_000;
        self.world.clock.advance(Duration::from_micros(micros));
        match self.pick(100) {
            0..4 => {
                let loss = self.loss();
                self.crash(loss, false).await?;
            }
            4..7 => self.jump(),
            7..19 => {
                let wants = self.several();
                let cut = self.one_in(3).then(|| self.loss());
                self.together(wants, cut).await?;
            }
            chance => {
                let Some(want) = self.want() else {
                    return Ok(());
                };
                let fate = match chance {
                    19..27 => Fate::Cut(self.loss(), self.cut_at(&want)),
                    27..33 if is_asked_by_people(&want) => Fate::Unheard,
                    _ => Fate::Done,
                };
                self.perform(want, fate).await?;
            }
        }
        self.look().await
    }

    fn loss(&mut self) -> Loss {
        match self.one_in(3) {
            true => Loss::Kill,
            false => Loss::Power,
        }
    }

    fn jump(&mut self) {
        if self.one_in(3) {
            let back = self.chance() % HOUR.as_micros() as u64;
            self.world.clock.set_back(Duration::from_micros(back));
            self.faults.count("clock back");
        } else if !self
            .shop
            .replies
            .iter()
            .any(|reply| reply.heard == Heard::Nothing)
        {
            let forward = self.chance() % JUMP_MAX.as_micros() as u64;
            self.world.clock.advance(Duration::from_micros(forward));
            self.faults.count("clock forward");
        }
        self.note("the clock jumps".to_owned());
    }

    /// What comes while the disk is slow: one router, and nobody copies the log meanwhile.
    fn several(&mut self) -> Vec<Want> {
        let mut wants: Vec<Want> = Vec::new();
        for _ in 0..3 + self.pick(4) {
            let Some(want) = self.want() else { continue };
            let twice = |other: &Want| match (other, &want) {
                (Want::Route(_), Want::Route(_)) => true,
                (
                    Want::Accept {
                        polled: Some(_), ..
                    },
                    Want::Accept {
                        polled: Some(_), ..
                    },
                ) => true,
                (Want::Reply(one), Want::Reply(other)) => one == other,
                (Want::SettleHeld(one, ..), Want::SettleHeld(other, ..)) => one == other,
                _ => false,
            };
            if !matches!(want, Want::Checkpoint) && !wants.iter().any(twice) {
                wants.push(want);
            }
        }
        wants
    }

    fn want(&mut self) -> Option<Want> {
        let agent = self.pick(AGENTS.len());
        match self.pick(100) {
            0..15 => Some(self.chats()),
            15..23 => self.mails(),
            23..27 => self.change(),
            27..32 => self.again(),
            32..48 => Some(Want::Route(1 + self.pick(BATCH_MAX))),
            48..56 => Some(Want::Claim(agent)),
            56..67 => self.reply(),
            67..72 => self.end(),
            72..73 => self.reopen(),
            73..81 => Some(Want::Lease(if self.one_in(2) { CHAT } else { MAIL })),
            81..90 => self.send(),
            90..93 => self.receipt(),
            93..95 => self.settle_held(true),
            95..97 => Some(Want::SaveCursor(self.polled)),
            97..98 => Some(Want::WakeDue),
            98..99 => Some(Want::Sweep),
            _ => Some(Want::Checkpoint),
        }
    }

    /// An agent is done with a conversation, for now or for good.
    fn end(&mut self) -> Option<Want> {
        let (conversation, by) = self.of_somebody()?;
        Some(match self.pick(6) {
            0 => Want::End(by, conversation, Action::Release),
            1 => {
                let until = self.world.clock.micros() + (self.chance() % 7_200_000_000) as i64;
                Want::Snooze(by, conversation, until)
            }
            _ => Want::End(by, conversation, Action::Resolve),
        })
    }

    fn reopen(&mut self) -> Option<Want> {
        let one = self.pick(self.known.len());
        self.known.get(one).copied().map(Want::Reopen)
    }

    /// Some customers write in the chat, or a provider delivers what it was not told of.
    fn chats(&mut self) -> Want {
        let mut sayings: Vec<usize> = Vec::new();
        let from = self.pick(CUSTOMERS);
        for customer in from..=from + self.pick(3) {
            let chance = self.chance();
            sayings.push(self.shop.say(customer % CUSTOMERS, CHAT, chance));
        }
        let untaken = self.shop.untaken();
        if let Some(other) = untaken.get(self.pick(untaken.len().max(1)))
            && self.shop.sayings[*other].channel == CHAT
            && !sayings.contains(other)
        {
            sayings.push(*other);
        }
        accept(CHAT, sayings)
    }

    fn mails(&mut self) -> Option<Want> {
        for _ in 0..self.pick(3) {
            let (customer, chance) = (self.pick(CUSTOMERS), self.chance());
            self.shop.say(customer, MAIL, chance);
        }
        let until = (self.polled + 1 + self.pick(3)).min(self.shop.mailbox.len());
        let sayings = self.shop.mailbox.get(self.polled..until)?.to_vec();
        (!sayings.is_empty()).then_some(Want::Accept {
            channel: MAIL,
            sayings,
            polled: Some(until),
        })
    }

    fn change(&mut self) -> Option<Want> {
        let of = self.pick(self.shop.sayings.len());
        let deleted = self.one_in(3);
        let number = self.shop.change(of, deleted)?;
        if self.shop.sayings[of].accepted_at.is_none() {
            self.faults.count("delivered out of order");
        }
        Some(accept(CHAT, vec![number]))
    }

    fn again(&mut self) -> Option<Want> {
        let now = self.world.clock.micros();
        let number = self.pick(self.shop.sayings.len());
        let first = self.shop.sayings.get(number)?;
        let (channel, customer) = (first.channel, first.customer);
        let mut sayings: Vec<usize> = Vec::new();
        for other in [number, number + 1, number.saturating_sub(2)] {
            let Some(saying) = self.shop.sayings.get(other) else {
                continue;
            };
            let recent = saying
                .accepted_at
                .is_some_and(|at| now - at < AGAIN_WITHIN_MICROS);
            if recent && saying.channel == channel && !sayings.contains(&other) {
                sayings.push(other);
            }
        }
        self.faults.add("delivered again", sayings.len() as u64);
        let newer = |other: &usize| {
            let later = self.shop.sayings.iter().skip(other + 1);
            later
                .filter(|one| one.customer == customer)
                .any(|one| one.accepted_at.is_some())
        };
        let late = sayings.iter().filter(|other| newer(other)).count();
        self.faults.add("delivered out of order", late as u64);
        (!sayings.is_empty()).then(|| accept(channel, sayings))
    }

    fn of_somebody(&mut self) -> Option<(switchboard::ids::ConversationId, usize)> {
        let held: Vec<_> = self
            .auditor
            .held
            .iter()
            .map(|(id, by)| (*id, *by))
            .collect();
        held.get(self.pick(held.len())).copied()
    }

    /// A new reply, or one again of which nothing was heard.
    fn reply(&mut self) -> Option<Want> {
        let unheard = self
            .shop
            .replies
            .iter()
            .position(|reply| reply.heard == Heard::Nothing);
        if let Some(number) = unheard {
            return Some(Want::Reply(number));
        }
        let (conversation, agent) = self.of_somebody()?;
        let number = self.shop.replies.len();
        self.shop.replies.push(Reply {
            conversation,
            agent,
            text: format!("r{number} We look after it."),
            heard: Heard::Nothing,
            message: None,
            channel: None,
            arrived: 0,
            again: 0,
        });
        Some(Want::Reply(number))
    }

    /// A lane sends what it has in hand, and the provider does as it likes.
    fn send(&mut self) -> Option<Want> {
        if self.in_hand.is_empty() {
            return None;
        }
        let leased = self.in_hand.remove(0);
        let number = self.shop.reply_of(&leased.draft.text)?;
        let idempotent = leased.channel.as_str() == CHAT;
        let at = self.world.clock.micros() + 60_000_000;
        let reason = "by chance".to_owned();
        let lost = match idempotent {
            true => Settlement::Retry {
                at,
                reason: reason.clone(),
            },
            false => Settlement::Unknown {
                reason: reason.clone(),
            },
        };
        let settlement = match self.pick(8) {
            0 => {
                self.arrives(&leased);
                self.faults.count("sent and the answer lost");
                lost
            }
            1 => {
                self.faults.count("not sent and the answer lost");
                lost
            }
            2 if self.shop.replies[number].arrived == 0 => {
                self.faults.count("refused by the provider");
                Settlement::Refused { reason }
            }
            3 => {
                self.faults.count("put off by the provider");
                Settlement::Retry { at, reason }
            }
            _ => {
                self.arrives(&leased);
                sent(number)
            }
        };
        Some(Want::Settle(leased.id, settlement))
    }

    fn receipt(&mut self) -> Option<Want> {
        let arrived: Vec<usize> = (0..self.shop.replies.len())
            .filter(|number| self.shop.replies[*number].arrived > 0)
            .collect();
        let reply = *arrived.get(self.pick(arrived.len()))?;
        let stage = match self.one_in(2) {
            true => DeliveryStage::Delivered,
            false => DeliveryStage::Read,
        };
        if self
            .auditor
            .delivery(reply)
            .is_some_and(|now| now == Delivery::Sending)
        {
            self.faults.count("receipt before its answer");
        }
        let number = self.shop.receipt(reply, stage)?;
        Some(accept(self.shop.sayings[number].channel, vec![number]))
    }

    /// A supervisor says what became of a reply; sometimes has it sent again although it arrived.
    pub fn settle_held(&mut self, careless: bool) -> Option<Want> {
        let (number, message) = self.auditor.unknown()?;
        let arrived = self.shop.replies[number].arrived > 0;
        let outcome = match arrived && !(careless && self.one_in(3)) {
            true => SettleAs::Sent,
            false => SettleAs::Retry,
        };
        Some(Want::SettleHeld(number, message, outcome))
    }
}

/// Of whom may not hear the answer; a part of the daemon that hears none is gone with it.
fn is_asked_by_people(want: &Want) -> bool {
    use Want::{Accept, Claim, End, Reopen, Reply, Snooze};
    matches!(
        want,
        Accept { .. } | Claim(_) | End(..) | Reopen(_) | Reply(_) | Snooze(..)
    )
}

pub fn accept(channel: &'static str, sayings: Vec<usize>) -> Want {
    Want::Accept {
        channel,
        sayings,
        polled: None,
    }
}

pub fn sent(reply: usize) -> Settlement {
    Settlement::Sent {
        provider_ids: vec![provider_id(reply)],
        namespace: None,
        refused: Vec::new(),
    }
}
