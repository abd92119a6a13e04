//! Replies on their way out: three outcomes, and none of them twice.

use std::sync::Arc;
use std::time::Duration;

use connector_api::DeliveryStage;
use switchboard::conversation::Delivery;
use switchboard::ids::IdKind;
use switchboard::store::{Leased, Settlement};

use crate::support::{Backend, Desk, Said, agent, chat, mail, receipt};

/// A conversation of ada's, answered; the reply is leased.
async fn sending(backend: Arc<dyn Backend>, said: Said) -> (Desk, Leased) {
    let mut desk = Desk::on(backend).await;
    let channel = said.channel;
    desk.deliver([said]).await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    let reply = desk.reply_to(desk.conversation(1).await.id, agent("ada"), "On its way.");
    desk.store().reply(reply).await.unwrap();
    let leased = desk.lease(channel).await.pop().expect("the reply is due");
    (desk, leased)
}

async fn delivery(desk: &Desk) -> Delivery {
    desk.messages(1).await[1]
        .delivery
        .expect("an answer has a delivery")
}

async fn held(desk: &Desk) -> [i64; 3] {
    desk.store().counts().await.unwrap().outbox
}

fn sent(provider_id: &str) -> Settlement {
    Settlement::Sent {
        provider_ids: vec![provider_id.to_owned()],
        namespace: None,
    }
}

pub async fn a_reply_is_leased_once_and_a_sent_one_is_done(backend: Arc<dyn Backend>) {
    let (mut desk, leased) = sending(backend, mail("ada@example.com", "Where is my order?")).await;
    assert_eq!(
        (leased.attempts, leased.draft.text.as_str()),
        (1, "On its way.")
    );
    assert_eq!(leased.draft.to.as_ref().unwrap().address, "ada@example.com");
    assert_eq!(delivery(&desk).await, Delivery::Sending);
    assert!(
        desk.lease("support-mail").await.is_empty(),
        "nobody else sends it"
    );
    assert!(desk.lease("sales-mail").await.is_empty());
    desk.settle(&leased, sent("a-1@shop")).await;
    desk.crash().await;
    assert_eq!(
        (delivery(&desk).await, held(&desk).await),
        (Delivery::Sent, [0, 0, 0])
    );
    assert_eq!(
        desk.store()
            .recover_outbox(Vec::new(), desk.now())
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        desk.store()
            .next_due(&"support-mail".parse().unwrap())
            .await
            .unwrap(),
        None
    );
}

pub async fn a_reply_that_was_not_sent_is_due_again_at_its_time(backend: Arc<dyn Backend>) {
    let (desk, leased) = sending(backend, mail("ada@example.com", "Where is my order?")).await;
    let at = desk.now() + 60_000_000;
    desk.settle(
        &leased,
        Settlement::Retry {
            at,
            reason: "refused connection".to_owned(),
        },
    )
    .await;
    assert_eq!(
        (delivery(&desk).await, held(&desk).await),
        (Delivery::Queued, [1, 0, 0])
    );
    assert_eq!(
        desk.store()
            .next_due(&"support-mail".parse().unwrap())
            .await
            .unwrap(),
        Some(at)
    );
    desk.later(Duration::from_secs(59));
    assert!(desk.lease("support-mail").await.is_empty(), "not yet");
    desk.later(Duration::from_secs(1));
    let [again] = &desk.lease("support-mail").await[..] else {
        panic!("it is due")
    };
    assert_eq!((again.id, again.attempts), (leased.id, 2));
}

pub async fn what_was_being_sent_in_a_crash_is_unknown_and_held(backend: Arc<dyn Backend>) {
    let (mut desk, _) = sending(backend, mail("ada@example.com", "Where is my order?")).await;
    desk.crash().await;
    assert_eq!(
        desk.store()
            .recover_outbox(Vec::new(), desk.now())
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        (delivery(&desk).await, held(&desk).await),
        (Delivery::Unknown, [0, 0, 1])
    );
    desk.hours_later(48);
    assert!(
        desk.lease("support-mail").await.is_empty(),
        "never again by itself"
    );
    assert_eq!(
        desk.conversation(1).await.status.as_str(),
        "assigned",
        "ada is told"
    );
}

pub async fn what_was_being_sent_in_a_crash_is_sent_again_where_that_delivers_once(
    backend: Arc<dyn Backend>,
) {
    let (mut desk, leased) = sending(backend, chat("cust-7", "Where is my order?")).await;
    desk.crash().await;
    let idempotent = vec!["shop-chat".parse().unwrap()];
    assert_eq!(
        desk.store()
            .recover_outbox(idempotent, desk.now())
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        (delivery(&desk).await, held(&desk).await),
        (Delivery::Queued, [1, 0, 0])
    );
    let [again] = &desk.lease("shop-chat").await[..] else {
        panic!("it is due at once")
    };
    assert_eq!(
        (again.id, again.draft.clone(), again.attempts),
        (leased.id, leased.draft, 2)
    );
}

pub async fn an_unknown_or_refused_answer_comes_back_to_its_agent(backend: Arc<dyn Backend>) {
    let (desk, leased) = sending(backend, mail("ada@example.com", "Where is my order?")).await;
    assert_eq!(desk.conversation(1).await.status.as_str(), "pending");
    desk.settle(
        &leased,
        Settlement::Refused {
            reason: "no such mailbox".to_owned(),
        },
    )
    .await;
    let conversation = desk.conversation(1).await;
    assert_eq!(
        (
            conversation.status.as_str(),
            conversation.assignee.as_deref()
        ),
        ("assigned", Some("ada"))
    );
    let answer = desk.messages(1).await.pop().unwrap();
    assert_eq!(
        (answer.delivery, answer.reason.as_deref()),
        (Some(Delivery::Refused), Some("no such mailbox"))
    );
    assert_eq!(held(&desk).await, [0, 0, 0]);
}

pub async fn a_receipt_that_came_first_is_not_undone_by_the_settlement(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let lost = || "no answer came".to_owned();
    let settlements = [
        sent("a-1@shop"),
        Settlement::Unknown { reason: lost() },
        Settlement::Refused { reason: lost() },
        Settlement::Retry {
            at: 0,
            reason: lost(),
        },
    ];
    for (number, settlement) in (1..).zip(settlements) {
        desk.deliver([mail(&format!("customer-{number}@example.com"), "Hello?")])
            .await;
        desk.reply(number, "On its way.").await;
        let leased = desk
            .lease("support-mail")
            .await
            .pop()
            .expect("the reply is due");
        let own_id = desk.keys.ids.encode(IdKind::Message, leased.id.0);
        desk.deliver([receipt(&own_id, DeliveryStage::Delivered)])
            .await;
        desk.settle(&leased, settlement.clone()).await;
        let delivery = desk.messages(number).await[1].delivery;
        assert_eq!(
            (delivery, held(&desk).await),
            (Some(Delivery::Delivered), [0, 0, 0]),
            "{settlement:?}"
        );
    }
}
