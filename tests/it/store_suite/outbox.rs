//! Replies on their way out: three outcomes, and none of them twice.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{Capabilities, ChannelId, DeliveryStage, QueueId};
use switchboard::conversation::Delivery;
use switchboard::dispatch::{Action, Refusal};
use switchboard::ids::IdKind;
use switchboard::router::Policy;
use switchboard::store::{Declared, Leased, Rings, Settlement, StoreError};

use crate::support::{Backend, Desk, Said, agent, chat, mail, receipt, senders, supervisor};

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
        refused: Vec::new(),
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
            .next_due(&"support-mail".parse().unwrap(), desk.now())
            .await
            .unwrap(),
        None
    );
}

pub async fn of_an_attempt_that_was_overtaken_only_that_it_was_sent_is_filed(
    backend: Arc<dyn Backend>,
) {
    let (desk, first) = sending(backend, chat("cust-7", "Where is my order?")).await;
    let channel: ChannelId = first.channel.clone();
    // Its process stood still; another one has the lane now, over which a message arrives once.
    desk.store()
        .recover_lane(&channel, true, desk.now())
        .await
        .unwrap();
    let second = desk.lease(channel.as_str()).await.pop().unwrap();
    assert_eq!((first.attempts, second.attempts), (1, 2));
    let why = || "the connection was cut".to_owned();
    for late in [
        Settlement::Retry {
            at: desk.now(),
            reason: why(),
        },
        Settlement::Refused { reason: why() },
        Settlement::Unknown { reason: why() },
    ] {
        let filed = desk
            .store()
            .settle_attempt(first.id, first.attempts, late, desk.now());
        assert_eq!(filed.await, Ok(Rings::default()));
        assert_eq!(delivery(&desk).await, Delivery::Sending);
        assert!(desk.lease(channel.as_str()).await.is_empty());
    }
    let arrived = desk
        .store()
        .settle_attempt(first.id, first.attempts, sent("a-1"), desk.now());
    arrived.await.unwrap();
    assert_eq!(delivery(&desk).await, Delivery::Sent);
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
            .next_due(&"support-mail".parse().unwrap(), desk.now())
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

fn refused() -> Settlement {
    Settlement::Refused {
        reason: "no such mailbox".to_owned(),
    }
}

fn unknown() -> Settlement {
    Settlement::Unknown {
        reason: "no answer came".to_owned(),
    }
}

fn frontline() -> Vec<QueueId> {
    vec!["frontline".parse().unwrap()]
}

async fn status_and_assignee(desk: &Desk, number: usize) -> (String, Option<String>) {
    let conversation = desk.conversation(number).await;
    (
        conversation.status.as_str().to_owned(),
        conversation.assignee,
    )
}

pub async fn an_answer_that_did_not_leave_brings_a_resolved_conversation_back_to_its_queue(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    for (number, settlement) in (1..).zip([refused(), unknown()]) {
        let customer = format!("customer-{number}@example.com");
        desk.deliver([mail(&customer, "Where is my order?")]).await;
        desk.claim("frontline", agent("ada")).await.unwrap();
        let id = desk.conversation(number).await.id;
        let reply = desk.reply_to(id, agent("ada"), "On its way.");
        desk.store().reply(reply).await.unwrap();
        // Answered and resolved at once, as desks do.
        desk.act(number, agent("ada"), Action::Resolve)
            .await
            .unwrap();
        let leased = desk.lease("support-mail").await.pop().unwrap();
        let rings = desk.settled(&leased, settlement.clone()).await;
        assert_eq!(rings.queues, frontline(), "{settlement:?}");
        assert_eq!(
            status_and_assignee(&desk, number).await,
            ("queued".to_owned(), None),
            "{settlement:?}"
        );
        let claimed = desk.claim("frontline", agent("bob")).await;
        assert_eq!(
            claimed.map(|claimed| claimed.id),
            Some(id),
            "it waits again"
        );
    }
}

pub async fn a_failed_receipt_that_overtakes_the_answer_brings_the_conversation_back(
    backend: Arc<dyn Backend>,
) {
    let (mut desk, leased) = sending(backend, mail("ada@example.com", "Where is my order?")).await;
    desk.act(1, agent("ada"), Action::Resolve).await.unwrap();
    // The bounce comes before the answer that names the message.
    desk.deliver([receipt("a-1@shop", DeliveryStage::Failed)])
        .await;
    assert_eq!(delivery(&desk).await, Delivery::Sending);
    let rings = desk.settled(&leased, sent("a-1@shop")).await;
    assert_eq!(rings.queues, frontline());
    assert_eq!(delivery(&desk).await, Delivery::Refused);
    assert_eq!(
        status_and_assignee(&desk, 1).await,
        ("queued".to_owned(), None)
    );
}

pub async fn a_refused_receipt_rings_the_queue_that_waits_again(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Where is my order?")])
        .await;
    desk.answer(1, "On its way.", "a-1@shop").await;
    desk.resolve(1).await;
    desk.accept([receipt("a-1@shop", DeliveryStage::Failed)])
        .await
        .unwrap();
    let commit = desk.next_commit(1).await;
    let routed = desk.store().route(commit).await.unwrap();
    assert_eq!(routed.queues, frontline());
}

pub async fn an_acknowledgement_that_did_not_leave_brings_nobody_back(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.configure(|policy: &mut Policy| {
        let channel: ChannelId = "support-mail".parse().unwrap();
        policy.channels.get_mut(&channel).unwrap().acknowledge = Some("We have it.".to_owned());
    });
    desk.deliver([mail("ada@example.com", "Where is my order?")])
        .await;
    desk.resolve(1).await;
    let leased = desk.lease("support-mail").await.pop().unwrap();
    assert!(leased.draft.automatic);
    let rings = desk.settled(&leased, unknown()).await;
    assert_eq!(rings, Rings::default());
    assert_eq!(desk.conversation(1).await.status.as_str(), "resolved");
}

pub async fn replies_on_a_channel_that_cannot_send_are_refused(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "Where is my order?"),
        chat("cust-7", "Hello?"),
    ])
    .await;
    let waiting = desk.reply(1, "On its way.").await;
    let senders = senders([("shop-chat", Capabilities::default())]);
    desk.store()
        .set_senders(senders, Declared::default(), desk.now())
        .await
        .unwrap();
    let waited = desk
        .store()
        .message(supervisor(), waiting.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (waited.delivery, waited.reason.as_deref()),
        (
            Some(Delivery::Refused),
            Some("the channel support-mail cannot send")
        ),
        "what waits for it would wait for ever"
    );
    let reply = desk.reply_to(desk.conversation(1).await.id, supervisor(), "Hello?");
    let answer = desk.store().reply(reply).await;
    let Err(StoreError::Refused(Refusal::NotAnswerable { reason })) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(reason, "the channel support-mail cannot send");
    desk.reply(2, "Hello.").await;
    assert_eq!(desk.lease("shop-chat").await.len(), 1, "others can");
}

pub async fn a_reply_behind_another_is_due_when_that_one_is_settled(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Where is my order?")])
        .await;
    desk.reply(1, "By mail.").await;
    desk.deliver([chat("cust-7", "Hello?").with_email("ada@example.com")])
        .await;
    desk.reply(1, "By chat.").await;
    let next_due = async |channel: &str| {
        let channel = channel.parse().unwrap();
        desk.store().next_due(&channel, desk.now()).await.unwrap()
    };
    assert_eq!(next_due("shop-chat").await, None, "the mail goes first");
    let leased = desk.lease("support-mail").await.pop().unwrap();
    let rings = desk.settled(&leased, sent("a-1@shop")).await;
    assert_eq!(
        rings.channels,
        ["shop-chat".parse().unwrap()],
        "its lane is told"
    );
    assert!(next_due("shop-chat").await.is_some());
    assert_eq!(desk.lease("shop-chat").await.len(), 1);
}

pub async fn what_a_broken_lane_was_sending_is_settled_and_the_others_lanes_are_left_alone(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "Where is my order?"),
        chat("cust-7", "Hello?"),
    ])
    .await;
    desk.reply(1, "On its way.").await;
    desk.reply(2, "Hello.").await;
    for channel in ["support-mail", "shop-chat"] {
        assert_eq!(desk.lease(channel).await.len(), 1);
    }
    let mail_lane = "support-mail".parse().unwrap();
    desk.store()
        .recover_lane(&mail_lane, false, desk.now())
        .await
        .unwrap();
    assert_eq!(held(&desk).await, [0, 1, 1]);
    let chat_lane = "shop-chat".parse().unwrap();
    desk.store()
        .recover_lane(&chat_lane, true, desk.now())
        .await
        .unwrap();
    assert_eq!(
        held(&desk).await,
        [1, 0, 1],
        "sent again where that is safe"
    );
}
