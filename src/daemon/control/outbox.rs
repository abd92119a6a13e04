//! Commands about the outbox: what has not left, and what becomes of what is held.

use connector_api::ChannelId;

use crate::clock::{micros, timestamp};
use crate::ids::{IdKind, MessageId};
use crate::store::{OutboxFilter, OutboxState, SettleAs, Settling, StoreError, UnsentReply};

use super::Control;

const LISTED_MAX: u32 = 1_000;
/// Settled in one transaction: it holds the writer up for some milliseconds.
const SETTLED_AT_ONCE_MAX: u32 = 200;

type Result<T> = std::result::Result<T, String>;

impl Control {
    pub(super) async fn unsent(
        &self,
        states: Vec<OutboxState>,
        channel: Option<String>,
    ) -> Result<serde_json::Value> {
        let filter = OutboxFilter {
            states,
            channel: channel_of(channel)?,
            limit: LISTED_MAX,
        };
        let rows = self.store.unsent(filter).await.map_err(text)?;
        Ok(rows.iter().map(|row| self.unsent_view(row)).collect())
    }

    pub(super) async fn settle(&self, id: &str, outcome: SettleAs) -> Result<serde_json::Value> {
        let number = self.ids.decode(IdKind::Message, id);
        let number = number.ok_or_else(|| format!("there is no message {id}"))?;
        let settling = Settling {
            message: MessageId(number),
            by: None,
            outcome,
            idempotency: None,
            at: micros(self.clock.now()),
        };
        let (message, rings) = self.store.settle_held(settling).await.map_err(text)?;
        self.ring(&rings);
        Ok(serde_json::json!({ "id": id, "delivery": message.delivery }))
    }

    pub(super) async fn settle_restored(
        &self,
        outcome: SettleAs,
        channel: Option<String>,
    ) -> Result<serde_json::Value> {
        let channel = channel_of(channel)?;
        let mut settled = 0;
        loop {
            let now = micros(self.clock.now());
            let (count, rings) = self
                .store
                .settle_restored(outcome, channel.clone(), SETTLED_AT_ONCE_MAX, now)
                .await
                .map_err(text)?;
            self.ring(&rings);
            settled += count;
            if count < u64::from(SETTLED_AT_ONCE_MAX) {
                return Ok(serde_json::json!({ "settled": settled, "as": outcome }));
            }
        }
    }

    /// A running daemon knows what its lanes are sending now; without one that, too, may have left
    /// since a backup was made.
    pub(super) async fn hold(&self) -> Result<serde_json::Value> {
        let now = micros(self.clock.now());
        let held = self.store.hold_unsent(!self.sending, now).await;
        let (held, rings) = held.map_err(text)?;
        self.ring(&rings);
        Ok(serde_json::json!({ "held": held }))
    }

    fn unsent_view(&self, row: &UnsentReply) -> serde_json::Value {
        let (state, restored) = match row.state {
            OutboxState::Queued => ("queued", false),
            OutboxState::Sending => ("sending", false),
            OutboxState::Held => ("unknown", false),
            OutboxState::Restored => ("unknown", true),
        };
        serde_json::json!({
            "id": self.ids.encode(IdKind::Message, row.id.0),
            "conversation_id": self.ids.encode(IdKind::Conversation, row.conversation.0),
            "channel": row.channel.as_str(), "state": state, "restored": restored,
            "attempts": row.attempts, "accepted_at": timestamp(row.accepted_at),
            "due_at": (row.state == OutboxState::Queued).then(|| timestamp(row.due_at)),
            "reason": row.reason,
        })
    }
}

fn text(error: StoreError) -> String {
    error.to_string()
}

fn channel_of(channel: Option<String>) -> Result<Option<ChannelId>> {
    channel
        .map(|name| {
            name.parse()
                .map_err(|_| format!("there is no channel {name}"))
        })
        .transpose()
}
