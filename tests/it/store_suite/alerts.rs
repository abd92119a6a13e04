//! What alerts ask the store, and keep in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use switchboard::alerts::Told;
use switchboard::store::{SettleAs, Settlement, Settling};

use crate::support::{Backend, Desk, agent, channel_id, mail};

/// Since when the oldest answer of the mail channel was to leave.
async fn due_since(desk: &Desk) -> Option<i64> {
    let due = desk.store().due_since(desk.now()).await.unwrap();
    due.get(&channel_id("support-mail")).copied()
}

pub async fn an_answer_is_due_from_when_it_may_leave_until_it_left_or_is_held(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ann@example.com", "Where is my order?")])
        .await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    assert_eq!(due_since(&desk).await, None);
    let written = desk.now();
    let reply = desk.reply(1, "On its way.").await;
    desk.hours_later(1);
    assert_eq!(due_since(&desk).await, Some(written));
    let leased = desk.lease("support-mail").await.pop().unwrap();
    assert_eq!(due_since(&desk).await, Some(written), "it is being sent");
    let (at, reason) = (desk.now() + 60_000_000, "the daily limit".to_owned());
    desk.settle(&leased, Settlement::Retry { at, reason }).await;
    desk.hours_later(1);
    assert_eq!(due_since(&desk).await, Some(written), "it was put off");

    let leased = desk.lease("support-mail").await.pop().unwrap();
    let reason = "no answer came".to_owned();
    desk.settle(&leased, Settlement::Unknown { reason }).await;
    assert_eq!(due_since(&desk).await, None, "it is held");
    desk.hours_later(1);
    let again = desk.now();
    let settling = Settling {
        message: reply.id,
        by: None,
        outcome: SettleAs::Retry,
        idempotency: None,
        at: again,
    };
    desk.store().settle_held(settling).await.unwrap();
    desk.hours_later(1);
    assert_eq!(
        due_since(&desk).await,
        Some(again),
        "a person sends it again"
    );
    let leased = desk.lease("support-mail").await.pop().unwrap();
    let sent = Settlement::Sent {
        provider_ids: vec!["<a-1@shop.example>".to_owned()],
        namespace: None,
        refused: Vec::new(),
    };
    desk.settle(&leased, sent).await;
    assert_eq!(due_since(&desk).await, None, "it left");

    let conversation = desk.conversation(1).await.id;
    let mut later = desk.reply_to(conversation, agent("ada"), "And tomorrow?");
    let at = desk.now() + 3_600_000_000;
    later.written.send_at = Some(at);
    desk.store().reply(later).await.unwrap();
    assert_eq!(due_since(&desk).await, None, "it is to leave later");
    desk.hours_later(2);
    assert_eq!(due_since(&desk).await, Some(at));
}

pub async fn what_each_target_was_told_is_kept_over_a_crash_until_it_is_replaced(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let told = |key: &str, count: i64| Told {
        key: key.to_owned(),
        since: 1,
        at: 2,
        count,
        what: "the disk".to_owned(),
    };
    desk.store().probe(desk.now()).await.unwrap();
    let (mail, webhook) = ("mail:1", "webhook:2");
    for (target, count) in [(mail, 3), (webhook, 4), (mail, 5)] {
        let all = vec![told("disk", count)];
        desk.store().save_told(target, all).await.unwrap();
    }
    desk.crash().await;
    let of = |count| BTreeMap::from([("disk".to_owned(), told("disk", count))]);
    let kept = BTreeMap::from([(mail.to_owned(), of(5)), (webhook.to_owned(), of(4))]);
    assert_eq!(desk.store().told().await.unwrap(), kept);
    desk.store().save_told(mail, Vec::new()).await.unwrap();
    let kept = desk.store().told().await.unwrap();
    assert_eq!(kept.keys().collect::<Vec<_>>(), [webhook]);
}
