//! The healing: nothing fails any more, and everything that was begun must come to its end.

use switchboard::conversation::Delivery;
use switchboard::dispatch::Action;

use super::chance::{BATCH_MAX, HOUR, accept, sent};
use super::day::{Day, Fate, Want};
use super::shop::{Heard, Reply, What};
use super::world::{CHAT, MAIL};

/// Rounds in which everything is done.
const ROUNDS_MAX: usize = 60;

impl Day {
    /// Nothing fails any more: everything that was begun comes to its end.
    pub async fn heal(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            self.world.clock.advance(HOUR);
            for channel in [CHAT, MAIL] {
                let sayings = self.shop.untaken();
                let on = |number: &usize| self.shop.sayings[*number].channel == channel;
                let sayings: Vec<usize> = sayings.into_iter().filter(on).collect();
                self.wanted(accept(channel, sayings)).await?;
            }
            let mailed = self.shop.mailbox[self.polled..].to_vec();
            let polled = Some(self.shop.mailbox.len());
            self.wanted(Want::Accept {
                channel: MAIL,
                sayings: mailed,
                polled,
            })
            .await?;
            while self.world.is_behind().await {
                self.wanted(Want::Route(BATCH_MAX)).await?;
            }
            self.wanted(Want::WakeDue).await?;
            if let Some(again) = self
                .shop
                .replies
                .iter()
                .position(|reply| reply.heard == Heard::Nothing)
            {
                self.wanted(Want::Reply(again)).await?;
            }
            for channel in [CHAT, MAIL] {
                self.wanted(Want::Lease(channel)).await?;
            }
            for leased in std::mem::take(&mut self.in_hand) {
                let number = self
                    .shop
                    .reply_of(&leased.draft.text)
                    .ok_or("a reply of nobody")?;
                self.arrives(&leased);
                self.wanted(Want::Settle(leased.id, sent(number))).await?;
            }
            self.look().await?;
            while let Some(held) = self.settle_held(false) {
                self.wanted(held).await?;
                self.look().await?;
            }
            loop {
                let before = self.auditor.held.len();
                self.wanted(Want::Claim(0)).await?;
                if self.auditor.held.len() == before {
                    break;
                }
            }
            for (conversation, by) in self.auditor.held.clone() {
                self.wanted(Want::End(by, conversation, Action::Resolve))
                    .await?;
            }
            self.look().await?;
            if self.is_done().await? {
                return self.changes_are_applied();
            }
        }
        Err(format!(
            "liveness: not done after {ROUNDS_MAX} rounds: {}",
            self.left().await?
        ))
    }

    async fn wanted(&mut self, want: Want) -> Result<(), String> {
        match &want {
            Want::Accept { sayings, .. } if sayings.is_empty() => Ok(()),
            _ => self.perform(want, Fate::Done).await,
        }
    }

    async fn is_done(&self) -> Result<bool, String> {
        Ok(self.left().await?.is_empty())
    }

    /// What is not at its end.
    async fn left(&self) -> Result<String, String> {
        let counts = self
            .world
            .store
            .counts()
            .await
            .map_err(|error| error.to_string())?;
        let waiting: i64 = counts.queues.iter().map(|queue| queue.waiting).sum();
        let arrived = |reply: &Reply| reply.heard == Heard::Accepted && reply.arrived == 0;
        let refused = |number: usize| self.auditor.delivery(number) == Some(Delivery::Refused);
        let missing = (0..self.shop.replies.len())
            .filter(|number| arrived(&self.shop.replies[*number]) && !refused(*number));
        let left = [
            ("waiting", waiting),
            ("held", self.auditor.held.len() as i64),
            ("in the outbox", counts.outbox.iter().sum()),
            ("dead letters", counts.dead_letters),
            ("undecided", i64::from(self.world.is_behind().await)),
            ("replies not arrived", missing.count() as i64),
        ];
        let left = left.iter().filter(|(_, count)| *count > 0);
        Ok(left
            .map(|(what, count)| format!("{count} {what} "))
            .collect())
    }

    /// Every edit and every deletion was applied, in whichever order it came.
    fn changes_are_applied(&self) -> Result<(), String> {
        for saying in &self.shop.sayings {
            let (of, kind) = match saying.what {
                What::Edit { of } => (of, "edited"),
                What::Delete { of } => (of, "deleted"),
                What::Message { .. } | What::Receipt => continue,
            };
            if !self.auditor.is_changed(of, kind) {
                return Err(format!("order: n{of} was {kind} and does not show it"));
            }
        }
        Ok(())
    }
}
