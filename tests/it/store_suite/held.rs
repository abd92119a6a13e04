//! Replies that wait for a person, because nobody knows whether they left.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use connector_api::DeliveryStage;
use expect_test::expect;
use switchboard::conversation::Delivery;
use switchboard::dispatch::{Action, Actor, Refusal, Role};
use switchboard::ids::{IdKind, MessageId};
use switchboard::store::{
    Declared, OutboxFilter, OutboxState, Rings, SettleAs, SettledWhy, Settlement, Settling,
    StoreError, StoredMessage,
};

use crate::support::{Backend, Desk, agent, agent_of, mail, receipt, supervisor};

/// A reply of ada's to the `number`th customer; its answer was lost.
async fn lost(desk: &mut Desk, number: usize) -> MessageId {
    let customer = format!("customer-{number}@example.com");
    desk.deliver([mail(&customer, "Where is my order?")]).await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    let id = desk.conversation(number).await.id;
    let reply = desk.reply_to(id, agent("ada"), "On its way.");
    let (message, _) = desk.store().reply(reply).await.unwrap();
    let leased = desk.lease("support-mail").await.pop().unwrap();
    let reason = "no answer came".to_owned();
    desk.settle(&leased, Settlement::Unknown { reason }).await;
    message.id
}

async fn settle(
    desk: &Desk,
    message: MessageId,
    by: Option<Actor>,
    outcome: SettleAs,
) -> Result<(StoredMessage, Rings), StoreError> {
    let settling = Settling {
        message,
        by,
        outcome,
        idempotency: None,
        at: desk.now(),
    };
    desk.store().settle_held(settling).await
}

async fn message(desk: &Desk, id: MessageId) -> StoredMessage {
    let found = desk.store().message(supervisor(), id).await.unwrap();
    found.expect("the message is there")
}

async fn restored(desk: &Desk) -> i64 {
    desk.store().counts().await.unwrap().restored
}

pub async fn a_held_reply_is_settled_by_its_assignee_or_a_supervisor_and_nobody_else(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let held = lost(&mut desk, 1).await;
    let role = |role| Actor {
        role,
        agent: None,
        ..supervisor()
    };
    let refused = [
        (
            "bob",
            agent("bob"),
            "cannot settle a message of this conversation: it is not yours",
        ),
        (
            "eve",
            agent_of("eve", &["backoffice"], &[]),
            "there is no such message",
        ),
        ("reader", role(Role::Reader), "a reader may not do this"),
        ("admin", role(Role::Admin), "there is no such message"),
    ];
    for (who, actor, why) in refused {
        let answer = settle(&desk, held, Some(actor), SettleAs::Sent).await;
        assert_eq!(answer.unwrap_err().to_string(), why, "{who}");
        assert_eq!(message(&desk, held).await.delivery, Some(Delivery::Unknown));
    }
    let assignee = settle(&desk, held, Some(agent("ada")), SettleAs::Sent).await;
    assert_eq!(assignee.unwrap().0.delivery, Some(Delivery::Sent));
    let second = lost(&mut desk, 2).await;
    let supervised = settle(&desk, second, Some(supervisor()), SettleAs::Sent).await;
    assert_eq!(supervised.unwrap().0.delivery, Some(Delivery::Sent));
}

pub async fn each_settlement_does_what_it_says_and_is_written_down(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let mut table = String::new();
    let mut number = 0;
    for by in [Some(agent("ada")), None] {
        for outcome in SettleAs::ALL {
            number += 1;
            let held = lost(&mut desk, number).await;
            desk.act(number, agent("ada"), Action::Resolve)
                .await
                .unwrap();
            let (settled, rings) = settle(&desk, held, by.clone(), outcome).await.unwrap();
            desk.crash().await;
            let kept = message(&desk, held).await;
            assert_eq!(kept.delivery, settled.delivery);
            let why: SettledWhy = serde_json::from_value(kept.explanation).unwrap();
            let [why] = &why.settled[..] else {
                panic!("one settlement: {why:?}")
            };
            assert_eq!((why.outcome, why.at), (outcome, desk.now()));
            let names = |queues: Vec<&str>| queues.join(" ");
            table += &format!(
                "{}: {} ({}) by {} {} | {} | rings {} {} | {} sent again\n",
                outcome.as_str(),
                kept.delivery.unwrap().as_str(),
                kept.reason.as_deref().unwrap_or("-"),
                why.role.map_or("-", Role::as_str),
                why.agent.as_deref().unwrap_or("-"),
                desk.conversation(number).await.status.as_str(),
                names(rings.queues.iter().map(|queue| queue.as_str()).collect()),
                names(
                    rings
                        .channels
                        .iter()
                        .map(|channel| channel.as_str())
                        .collect()
                ),
                desk.lease("support-mail").await.len(),
            );
            if desk.conversation(number).await.status.is_open() {
                desk.resolve(number).await;
            }
        }
    }
    expect![[r#"
        sent: sent (-) by agent ada | resolved | rings   | 0 sent again
        refused: refused (a person settled it as refused) by agent ada | queued | rings frontline  | 0 sent again
        retry: queued (-) by agent ada | resolved | rings  support-mail | 1 sent again
        sent: sent (-) by - - | resolved | rings   | 0 sent again
        refused: refused (a person settled it as refused) by - - | queued | rings frontline  | 0 sent again
        retry: queued (-) by - - | resolved | rings  support-mail | 1 sent again
    "#]]
    .assert_eq(&table);
}

pub async fn only_a_held_reply_is_settled_and_only_once(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let held = lost(&mut desk, 1).await;
    settle(&desk, held, Some(supervisor()), SettleAs::Sent)
        .await
        .unwrap();
    let queued = desk.reply(1, "And another.").await.id;
    let inbound = desk.messages(1).await[0].id;
    let note = desk.reply_to(desk.conversation(1).await.id, supervisor(), "Careful.");
    let note = desk.store().note(note).await.unwrap().0.id;
    for (id, delivery) in [
        (held, Some(Delivery::Sent)),
        (queued, Some(Delivery::Queued)),
        (inbound, None),
        (note, None),
    ] {
        for outcome in SettleAs::ALL {
            let again = settle(&desk, id, Some(supervisor()), outcome).await;
            assert_eq!(
                again.unwrap_err(),
                StoreError::Refused(Refusal::NotHeld { delivery })
            );
        }
    }
    assert_eq!(desk.lease("support-mail").await.len(), 1, "the queued one");
}

pub async fn a_repeated_key_settles_once_and_another_request_under_it_is_refused(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let held = lost(&mut desk, 1).await;
    let keyed = |outcome, fingerprint| Settling {
        message: held,
        by: Some(agent("ada")),
        outcome,
        idempotency: Some((b"ada:key-1".to_vec(), vec![fingerprint; 32])),
        at: desk.now(),
    };
    let store = desk.store();
    let (first, rings) = store.settle_held(keyed(SettleAs::Retry, 1)).await.unwrap();
    assert_eq!(first.delivery, Some(Delivery::Queued));
    assert_eq!(rings.channels.len(), 1);
    assert_eq!(desk.lease("support-mail").await.len(), 1);
    let (again, rings) = store.settle_held(keyed(SettleAs::Retry, 1)).await.unwrap();
    assert_eq!(
        (again.delivery, rings),
        (Some(Delivery::Sending), Rings::default()),
        "as it stands now"
    );
    let other = store.settle_held(keyed(SettleAs::Sent, 2)).await;
    assert_eq!(other.unwrap_err(), StoreError::Refused(Refusal::KeyReused));
}

pub async fn a_reply_sent_again_has_its_full_time_again(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let held = lost(&mut desk, 1).await;
    desk.hours_later(24 * 6);
    settle(&desk, held, Some(supervisor()), SettleAs::Retry)
        .await
        .unwrap();
    let leased = desk.lease("support-mail").await.pop().unwrap();
    assert_eq!((leased.attempts, leased.tried_since), (1, desk.now()));
    assert!(leased.accepted_at < desk.now(), "its date stays");
}

pub async fn a_restored_store_gives_out_numbers_that_no_copy_of_it_has_given_out(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Hello?")]).await;
    let before = desk.reply(1, "Hello.").await.id;
    let now = desk.now();
    assert!(before.0 < now);
    desk.crash().await;
    desk.store().hold_unsent(true, now).await.unwrap();
    // Over every connection there is.
    let replies = (0..20).map(|_| desk.reply(1, "Hello again."));
    for reply in futures::future::join_all(replies).await {
        assert!(reply.id.0 >= now, "{:?} is not above {now}", reply.id);
    }
    desk.crash().await;
    assert!(desk.reply(1, "And again.").await.id.0 >= now);
}

pub async fn what_is_held_as_restored_leaves_only_when_it_is_settled(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let unknown = lost(&mut desk, 1).await;
    let mut unsent = Vec::new();
    for number in [2, 3, 4] {
        let customer = format!("customer-{number}@example.com");
        desk.deliver([mail(&customer, "Hello?")]).await;
        unsent.push(desk.reply(number, "Hello.").await.id);
    }
    desk.resolve(4).await;
    let (count, rings) = desk.store().hold_unsent(false, desk.now()).await.unwrap();
    assert_eq!(count, 3);
    assert_eq!(rings.queues.len(), 1, "what was answered waits again");
    assert_eq!(desk.conversation(4).await.status.as_str(), "queued");
    desk.crash().await;
    desk.hours_later(48);
    assert!(desk.lease("support-mail").await.is_empty());
    for id in &unsent {
        let held = message(&desk, *id).await;
        assert_eq!(held.delivery, Some(Delivery::Unknown));
        assert!(held.reason.unwrap().contains("backup"));
    }
    assert_eq!(restored(&desk).await, 3);
    // What is written from here on leaves.
    let fresh = desk.reply(3, "Still there?").await.id;
    let leased = desk.lease("support-mail").await;
    assert_eq!(leased.iter().map(|one| one.id).collect::<Vec<_>>(), [fresh]);

    let one = settle(&desk, unsent[0], Some(supervisor()), SettleAs::Sent).await;
    assert_eq!(one.unwrap().0.delivery, Some(Delivery::Sent));
    let others = async |limit| {
        let store = desk.store();
        let settled = store.settle_restored(SettleAs::Retry, None, limit, desk.now());
        settled.await.unwrap().0
    };
    assert_eq!(
        [others(1).await, others(9).await, others(9).await],
        [1, 1, 0]
    );
    assert_eq!(restored(&desk).await, 0);
    let leased = desk.lease("support-mail").await;
    // All of them at the same time, so in any order.
    let leased: BTreeSet<MessageId> = leased.iter().map(|one| one.id).collect();
    assert_eq!(leased, unsent[1..].iter().copied().collect());
    let list = OutboxFilter {
        states: vec![OutboxState::Held, OutboxState::Restored],
        channel: None,
        limit: 10,
    };
    let held = desk.store().unsent(list).await.unwrap();
    assert_eq!(
        held.len(),
        1,
        "an ordinary unknown one stays with its agent"
    );
    assert_eq!(held[0].id, unknown);
}

pub async fn what_was_under_way_is_held_with_the_rest_where_nothing_runs(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    for number in [1, 2] {
        let customer = format!("customer-{number}@example.com");
        desk.deliver([mail(&customer, "Hello?")]).await;
        desk.reply(number, "Hello.").await;
        if number == 1 {
            assert_eq!(desk.lease("support-mail").await.len(), 1);
        }
    }
    let held = async |sending| {
        let held = desk.store().hold_unsent(sending, desk.now()).await;
        held.unwrap().0
    };
    assert_eq!(held(false).await, 1, "a lane tells what it is sending");
    assert_eq!(held(true).await, 1);
    assert_eq!(restored(&desk).await, 2);
}

pub async fn a_receipt_settles_what_is_held_as_restored(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Hello?")]).await;
    let id = desk.reply(1, "Hello.").await.id;
    desk.store().hold_unsent(false, desk.now()).await.unwrap();
    let own_id = desk.keys.ids.encode(IdKind::Message, id.0);
    desk.deliver([receipt(&own_id, DeliveryStage::Delivered)])
        .await;
    let told = message(&desk, id).await;
    assert_eq!(
        (told.delivery, told.reason),
        (Some(Delivery::Delivered), None)
    );
    assert_eq!(restored(&desk).await, 0);
}

pub async fn what_cannot_be_sent_again_is_not_queued_again(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let held = lost(&mut desk, 1).await;
    desk.deliver([mail("ada@example.com", "Hello?")]).await;
    let unsent = desk.reply(2, "Hello.").await.id;
    let (store, now) = (desk.store(), desk.now());
    store.hold_unsent(false, now).await.unwrap();
    store
        .set_senders(HashMap::new(), Declared::default(), now)
        .await
        .unwrap();
    let refused = settle(&desk, held, Some(agent("ada")), SettleAs::Retry).await;
    assert!(
        matches!(
            &refused,
            Err(StoreError::Refused(Refusal::NotAnswerable { reason }))
                if reason == "the channel support-mail cannot send"
        ),
        "{refused:?}"
    );
    let all = store.settle_restored(SettleAs::Retry, None, 10, now).await;
    assert_eq!(all.unwrap().0, 1);
    let refused = message(&desk, unsent).await;
    assert_eq!(refused.delivery, Some(Delivery::Refused));
    let said = settle(&desk, held, Some(agent("ada")), SettleAs::Sent).await;
    assert_eq!(said.unwrap().0.delivery, Some(Delivery::Sent));
}
