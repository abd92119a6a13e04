//! The states of a conversation and of a sent message, and the moves between them. Pure: every
//! part that changes one asks here.

pub mod receipt;

use connector_api::DeliveryStage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a conversation stands. `Open` states count for "one open conversation per matter".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    New,
    Queued,
    Offered,
    Assigned,
    Wrapping,
    Pending,
    Snoozed,
    Automation,
    Resolved,
    Closed,
}

impl Status {
    pub const ALL: [Self; 10] = [
        Self::New,
        Self::Queued,
        Self::Offered,
        Self::Assigned,
        Self::Wrapping,
        Self::Pending,
        Self::Snoozed,
        Self::Automation,
        Self::Resolved,
        Self::Closed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Queued => "queued",
            Self::Offered => "offered",
            Self::Assigned => "assigned",
            Self::Wrapping => "wrapping",
            Self::Pending => "pending",
            Self::Snoozed => "snoozed",
            Self::Automation => "automation",
            Self::Resolved => "resolved",
            Self::Closed => "closed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// The stored form; the order of [`Self::ALL`], never changed.
    pub fn code(self) -> i64 {
        Self::ALL
            .iter()
            .position(|status| *status == self)
            .map_or(0, |at| at as i64)
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    pub fn is_open(self) -> bool {
        !matches!(self, Self::Resolved | Self::Closed)
    }

    /// What a customer's message makes of it. A closed conversation takes no more messages.
    pub fn after_customer_message(self) -> Self {
        match self {
            Self::New | Self::Snoozed | Self::Resolved => Self::Queued,
            Self::Pending | Self::Wrapping => Self::Assigned,
            other => other,
        }
    }
}

/// How urgent; each level is a head start in the queue.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
    Urgent,
}

impl Priority {
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Urgent];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }

    pub fn code(self) -> i64 {
        match self {
            Self::Low => 0,
            Self::Normal => 1,
            Self::High => 2,
            Self::Urgent => 3,
        }
    }

    pub fn from_code(code: i64) -> Self {
        Self::ALL
            .get(usize::try_from(code).unwrap_or(1))
            .copied()
            .unwrap_or_default()
    }

    /// By how much a conversation of this priority stands before a normal one that came at the
    /// same time, in microseconds. A head start and not a class of its own: an old normal
    /// conversation comes before a new urgent one in the end, so nothing starves.
    pub fn head_start_micros(self) -> i64 {
        const MINUTE: i64 = 60_000_000;
        match self {
            Self::Low => -60 * MINUTE,
            Self::Normal => 0,
            Self::High => 60 * MINUTE,
            Self::Urgent => 24 * 60 * MINUTE,
        }
    }
}

/// The place in a queue: smaller is sooner. Stored, and changed only by events.
pub fn rank(enqueued_at_micros: i64, priority: Priority) -> i64 {
    enqueued_at_micros - priority.head_start_micros()
}

/// What became of an outbound message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    Queued,
    Sending,
    Sent,
    Delivered,
    Read,
    Refused,
    Unknown,
}

impl Delivery {
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Sending,
        Self::Sent,
        Self::Delivered,
        Self::Read,
        Self::Refused,
        Self::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    pub fn code(self) -> i64 {
        Self::ALL
            .iter()
            .position(|delivery| *delivery == self)
            .map_or(0, |at| at as i64)
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// What a provider's receipt makes of it; `None` where it changes nothing. Receipts come late,
    /// twice and out of order: accepted → sent; failed → refused from sending, sent or unknown,
    /// never from delivered or read; a positive one settles `unknown`; otherwise never backwards.
    pub fn after_receipt(self, stage: DeliveryStage) -> Option<Self> {
        let next = match (self, stage) {
            (Self::Sending | Self::Sent | Self::Unknown, DeliveryStage::Failed) => Self::Refused,
            (_, DeliveryStage::Failed) if bug!("receipt-goes-back") => Self::Refused,
            (_, DeliveryStage::Failed) => return None,
            (Self::Queued | Self::Sending | Self::Unknown, DeliveryStage::Accepted) => Self::Sent,
            (Self::Delivered | Self::Read, DeliveryStage::Delivered) => return None,
            (Self::Refused | Self::Read, _) | (_, DeliveryStage::Accepted) => return None,
            (_, DeliveryStage::Delivered) => Self::Delivered,
            (_, DeliveryStage::Read) => Self::Read,
        };
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_in_any_order_settle_on_the_furthest_stage() {
        use DeliveryStage::{Accepted, Delivered, Failed, Read};
        let orders: [(&[DeliveryStage], Delivery); 8] = [
            (&[Accepted, Delivered, Read], Delivery::Read),
            (&[Read, Delivered, Accepted], Delivery::Read),
            (&[Delivered, Read, Accepted, Delivered], Delivery::Read),
            (&[Delivered, Failed], Delivery::Delivered),
            (&[Accepted, Failed], Delivery::Refused),
            (&[Failed, Accepted], Delivery::Refused),
            (&[Failed, Delivered], Delivery::Refused),
            (&[Read, Failed], Delivery::Read),
        ];
        for (receipts, expected) in orders {
            for start in [Delivery::Sending, Delivery::Sent, Delivery::Unknown] {
                let end = receipts
                    .iter()
                    .fold(start, |now, stage| now.after_receipt(*stage).unwrap_or(now));
                assert_eq!(end, expected, "{start:?} then {receipts:?}");
            }
        }
    }

    #[test]
    fn stored_codes_come_back_as_they_went() {
        for status in Status::ALL {
            assert_eq!(Status::from_code(status.code()), Some(status));
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        for delivery in Delivery::ALL {
            assert_eq!(Delivery::from_code(delivery.code()), Some(delivery));
        }
        for priority in Priority::ALL {
            assert_eq!(Priority::from_code(priority.code()), priority);
        }
    }

    #[test]
    fn an_old_normal_conversation_comes_before_a_new_urgent_one() {
        let day = 24 * 60 * 60_000_000;
        assert!(rank(0, Priority::Normal) < rank(day + 1, Priority::Urgent));
        assert!(rank(day - 1, Priority::Urgent) < rank(0, Priority::Normal));
    }
}
