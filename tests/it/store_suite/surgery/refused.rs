//! What surgery refuses, and who waits where.

use std::sync::Arc;

use switchboard::dispatch::surgery::{MESSAGES_MAX, Refused};
use switchboard::dispatch::{Action, Actor, Refusal};
use switchboard::store::StoreError;
use switchboard::store::surgery::Order;

use crate::support::{Backend, Desk, agent, agent_of, chat, mail, supervisor};

use super::{answer, id, merge, order, refused, state, two, undo};

pub async fn what_another_operation_builds_on_is_undone_after_it(backend: Arc<dyn Backend>) {
    let (desk, first, second) = two(backend).await;
    let merged = merge(&desk, second, first).await;
    let message = desk.messages(1).await[0].id;
    let split = desk
        .store()
        .split_conversation(first, vec![message], order(&desk, supervisor()));
    let split = split.await.unwrap();
    let early = desk
        .store()
        .undo(merged.event, order(&desk, supervisor()))
        .await;
    assert_eq!(
        refused(early.unwrap_err()),
        Refused::UndoFirst { event: split.event }
    );
    undo(&desk, split.event).await;
    undo(&desk, merged.event).await;
    // What belongs together is listed together.
    let listed = desk.store().operations(first.0, 10).await.unwrap();
    let kinds: Vec<_> = listed.iter().map(|one| format!("{:?}", one.kind)).collect();
    assert_eq!(kinds, ["Undo", "Undo", "Split", "Merge"]);
    assert!(
        listed
            .iter()
            .all(|one| one.by.as_ref().unwrap().agent.as_deref() == Some("sue"))
    );
}

pub async fn only_conversations_of_one_contact_and_brand_are_merged_and_by_whom_they_are(
    backend: Arc<dyn Backend>,
) {
    let (mut desk, first, second) = two(backend).await;
    desk.deliver([
        mail("bob@example.com", "Me too."),
        mail("ada@example.com", "Elsewhere.").on("outlet-mail"),
    ])
    .await;
    let (other, outlet) = (id(&desk, 3).await, id(&desk, 4).await);
    let merge = async |from, into, actor: Actor| {
        let order = order(&desk, actor);
        desk.store().merge_conversations(from, into, order).await
    };
    let different = merge(other, first, supervisor()).await.unwrap_err();
    assert_eq!(refused(different), Refused::AnotherContact);
    let missing = StoreError::Refused(Refusal::NotFound {
        what: "conversation",
    });
    for (from, into, actor) in [
        (outlet, first, supervisor()),
        (first, outlet, supervisor()),
        (first, second, agent_of("ada", &["backoffice"], &[])),
        (first, second, agent_of("ada", &[], &["outlet"])),
    ] {
        assert_eq!(merge(from, into, actor).await.unwrap_err(), missing);
    }
    // Neither is hers.
    let nobodys = merge(second, first, agent("ada")).await.unwrap_err();
    assert!(matches!(
        refused(nobodys),
        Refused::NotYours { holder: None, .. }
    ));
    desk.claim("frontline", agent("ada")).await.unwrap();
    let bobs = merge(second, first, agent("bob")).await.unwrap_err();
    assert!(
        matches!(refused(bobs), Refused::NotYours { holder: Some(holder), .. } if holder == "ada")
    );
    let stale = Order {
        other_version: Some(77),
        ..order(&desk, agent("ada"))
    };
    let stale = desk.store().merge_conversations(second, first, stale).await;
    assert!(matches!(
        stale.unwrap_err(),
        StoreError::Refused(Refusal::Stale { given: 77, .. })
    ));
    let merged = merge(second, first, agent("ada")).await.unwrap();
    let bobs = desk
        .store()
        .undo(merged.event, order(&desk, agent("bob")))
        .await;
    assert!(matches!(
        refused(bobs.unwrap_err()),
        Refused::NotYours { .. }
    ));
    let hidden = order(&desk, agent_of("eve", &["backoffice"], &[]));
    let hidden = desk.store().undo(merged.event, hidden).await.unwrap_err();
    assert_eq!(
        hidden,
        StoreError::Refused(Refusal::NotFound { what: "operation" })
    );
    // Nothing is done to what was merged away.
    let gone = desk
        .store()
        .act(second, supervisor(), Action::Resolve, None, desk.now())
        .await;
    assert_eq!(refused(gone.unwrap_err()), Refused::Gone { into: first });
    let note = desk
        .store()
        .note(desk.reply_to(second, supervisor(), "Hm."))
        .await;
    assert_eq!(refused(note.unwrap_err()), Refused::Gone { into: first });
    let mine = desk
        .store()
        .undo(merged.event, order(&desk, agent("ada")))
        .await;
    assert_eq!(mine.unwrap().conversations.len(), 2);
}

pub async fn whoever_waits_in_a_merged_conversation_waits_in_the_other(backend: Arc<dyn Backend>) {
    let (mut desk, first, second) = two(backend).await;
    let waited = desk.conversation(1).await.enqueued_at;
    desk.hours_later(1);
    // The other was answered and waits for the customer.
    let order_of = order(&desk, supervisor());
    let later = merge(&desk, first, second).await;
    assert_eq!(
        later.conversations[1].enqueued_at, waited,
        "the longer wait counts"
    );
    undo(&desk, later.event).await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    let reply = desk.reply_to(first, agent("ada"), "It comes tomorrow.");
    desk.store().reply(reply).await.unwrap();
    let before = state(&desk).await.comparable();
    let merged = desk
        .store()
        .merge_conversations(second, first, order_of)
        .await
        .unwrap();
    let whole = &merged.conversations[1];
    assert_eq!(
        (whole.status.as_str(), whole.assignee.as_deref()),
        ("assigned", Some("ada"))
    );
    undo(&desk, merged.event).await;
    assert_eq!(state(&desk).await.comparable(), before);
    desk.resolve(2).await;
    let ended = desk
        .store()
        .merge_conversations(first, second, order(&desk, supervisor()))
        .await;
    assert!(matches!(
        refused(ended.unwrap_err()),
        Refused::NotOpen { .. }
    ));
    desk.deliver([answer("Thanks.")]).await;
}

pub async fn what_would_hold_up_everybody_is_refused(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let many = (0..=MESSAGES_MAX).map(|number| chat("cust-7", &format!("Word {number}.")));
    desk.accept_at_once(many).await;
    desk.route(500).await;
    desk.deliver([chat("cust-7", "Another thing.").forward()])
        .await;
    let (long, short) = (id(&desk, 1).await, id(&desk, 2).await);
    let merging = desk
        .store()
        .merge_conversations(long, short, order(&desk, supervisor()));
    assert!(matches!(
        refused(merging.await.unwrap_err()),
        Refused::TooMany {
            max: MESSAGES_MAX,
            ..
        }
    ));
    // The other way round only the end of the long one is touched.
    let merged = merge(&desk, short, long).await;
    undo(&desk, merged.event).await;
}
