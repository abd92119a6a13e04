//! Order and time, and how far an answer got.

use std::collections::HashMap;

use connector_api::DeliveryStage;
use switchboard::conversation::Delivery;
use switchboard::ids::{IdKind, MessageId};
use switchboard::router::effects::EventType;
use switchboard::store::events::EventFilter;
use switchboard::store::{SettleAs, Settlement, Settling};

use super::{answered, proven};
use crate::support::{Desk, receipt, supervisor};

#[tokio::test]
async fn chatwoot_14739_a_mail_keeps_the_time_its_sender_wrote_it() {
    let mail = proven(
        "From: ada@example.com\nDate: Mon, 5 Jan 2026 10:00:00 +0100",
        "Late.",
    );
    let sent_at = mail.event.sent_at.unwrap();
    assert_eq!(sent_at.to_string(), "2026-01-05T09:00:00Z");
    let mut desk = Desk::new().await;
    desk.deliver([mail]).await;
    let stored = &desk.messages(1).await[0];
    assert_eq!(stored.sent_at, Some(sent_at.as_microsecond()));
    assert_ne!(stored.arrived_at, sent_at.as_microsecond());
}

#[tokio::test]
async fn chatwoot_12661_a_customers_mail_that_was_under_way_stands_where_it_was_filed() {
    let mut desk = Desk::new().await;
    let id = answered(&mut desk).await;
    let early =
        format!("From: ada@example.com\nDate: Mon, 1 Jan 2024 10:00:00 +0000\nIn-Reply-To: <{id}>");
    desk.deliver([proven(&early, "Written long before.")]).await;
    let seqs: Vec<i64> = desk.messages(1).await.iter().map(|it| it.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
}

/// What an answer is told to be: by its row, by the counts of the outbox, by the newest event.
struct Told {
    delivery: Delivery,
    reason: Option<String>,
    event: Option<String>,
}

async fn told(desk: &Desk, number: usize, events: &HashMap<MessageId, String>) -> Told {
    let message = desk.messages(number).await.remove(1);
    Told {
        delivery: message.delivery.unwrap(),
        reason: message.reason,
        event: events.get(&message.id).cloned(),
    }
}

/// The last thing told of each message's delivery.
async fn newest_events(desk: &Desk) -> HashMap<MessageId, String> {
    let (mut newest, mut after) = (HashMap::new(), 0);
    loop {
        let filter = EventFilter {
            kinds: vec![EventType::MessageDelivery],
            limit: 1_000,
            ..EventFilter::default()
        };
        let page = desk.store().events(after, filter).await.unwrap();
        for event in &page.events {
            let delivery = event.detail["delivery"].as_str().unwrap_or_default();
            newest.insert(event.message.unwrap(), delivery.to_owned());
        }
        if page.through == after {
            return newest;
        }
        after = page.through;
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Receipt(DeliveryStage),
    Settled(&'static str),
}

/// Every order of three receipts and the end of the sending.
fn orders() -> Vec<Vec<Step>> {
    let stages = [
        DeliveryStage::Accepted,
        DeliveryStage::Delivered,
        DeliveryStage::Failed,
    ];
    let mut orders = Vec::new();
    for how in ["sent", "unknown", "refused"] {
        for [a, b, c] in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            for at in 0..4 {
                let mut order = [a, b, c].map(|one| Step::Receipt(stages[one])).to_vec();
                order.insert(at, Step::Settled(how));
                orders.push(order);
            }
        }
    }
    orders
}

/// It was "delivered" on the screen, "sent" in the database and "undeliverable" in the error.
#[tokio::test]
async fn chatwoot_13377_whatever_is_reported_an_answer_has_one_state_everywhere() {
    let mut desk = Desk::new().await;
    let orders = orders();
    let asked = (0..orders.len())
        .map(|number| proven(&format!("From: c{number}@example.com"), "Where is it?"));
    desk.accept_at_once(asked).await;
    desk.route(100).await;
    for number in 1..=orders.len() {
        desk.reply(number, "On its way.").await;
    }
    let mut leased = desk.lease("support-mail").await;
    leased.sort_by_key(|leased| leased.conversation);
    let mut before: Vec<Option<Delivery>> = vec![None; orders.len()];
    for step in 0..4 {
        let mut receipts = Vec::new();
        for (order, leased) in orders.iter().zip(&leased) {
            let reason = "it was so".to_owned();
            match order[step] {
                Step::Receipt(stage) => {
                    let ours = desk.keys.ids.encode(IdKind::Message, leased.id.0);
                    receipts.push(receipt(&ours, stage));
                }
                Step::Settled("sent") => {
                    let provider_ids = vec![format!("{}@shop", leased.id.0)];
                    let sent = Settlement::Sent {
                        provider_ids,
                        namespace: None,
                        refused: Vec::new(),
                    };
                    desk.settle(leased, sent).await;
                }
                Step::Settled("unknown") => {
                    desk.settle(leased, Settlement::Unknown { reason }).await;
                }
                Step::Settled(_) => desk.settle(leased, Settlement::Refused { reason }).await,
            }
        }
        desk.accept_at_once(receipts).await;
        desk.route(100).await;
        let events = newest_events(&desk).await;
        let mut unknown = 0;
        for (at, order) in orders.iter().enumerate() {
            let told = told(&desk, at + 1, &events).await;
            let now = told.delivery;
            let what = format!("{order:?}, step {step}: {now:?}");
            let failed = matches!(now, Delivery::Refused | Delivery::Unknown);
            assert_eq!(told.reason.is_some(), failed, "{what}: {:?}", told.reason);
            let event = told.event.as_deref().unwrap_or(Delivery::Sending.as_str());
            assert_eq!(event, now.as_str(), "{what}");
            let ended = [Delivery::Delivered, Delivery::Refused].map(Some);
            if ended.contains(&before[at]) {
                assert_eq!(before[at], Some(now), "{what}");
            }
            before[at] = Some(now);
            unknown += i64::from(now == Delivery::Unknown);
        }
        let held = desk.store().counts().await.unwrap().outbox[2];
        assert_eq!(held, unknown, "step {step}");
    }
}

/// The same where a person says what became of it.
#[tokio::test]
async fn chatwoot_13377_what_a_person_settles_has_one_state_everywhere() {
    let mut desk = Desk::new().await;
    for (number, outcome) in (1..).zip(SettleAs::ALL) {
        let customer = format!("From: c{number}@example.com");
        desk.deliver([proven(&customer, "Where is it?")]).await;
        let answer = desk.reply(number, "On its way.").await;
        let leased = desk.lease("support-mail").await.pop().unwrap();
        let reason = "no answer came".to_owned();
        desk.settle(&leased, Settlement::Unknown { reason }).await;
        let settling = Settling {
            message: answer.id,
            by: Some(supervisor()),
            outcome,
            idempotency: None,
            at: desk.now(),
        };
        let (message, _) = desk.store().settle_held(settling).await.unwrap();
        let told = told(&desk, number, &newest_events(&desk).await).await;
        assert_eq!(message.delivery, Some(told.delivery), "{outcome:?}");
        assert_eq!(told.event.as_deref(), Some(told.delivery.as_str()));
        let failed = told.delivery == Delivery::Refused;
        assert_eq!(told.reason.is_some(), failed, "{outcome:?}");
        assert_eq!(desk.store().counts().await.unwrap().outbox[2], 0);
    }
}
