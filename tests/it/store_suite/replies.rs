//! What agents write: where it goes, and that a repeated request writes once.

use std::sync::Arc;

use connector_api::{Automatic, Namespace};
use expect_test::expect;
use switchboard::dispatch::Refusal;
use switchboard::store::{NewReply, Settlement, StoreError};

use crate::support::{Backend, Desk, chat, echo, mail, supervisor};

pub async fn a_reply_goes_to_whoever_wrote_last_on_the_channel_they_wrote_on(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let subject = "Order 17";
    desk.deliver([mail("ada@example.com", "Where is my order?")
        .message_id("a-1@x")
        .subject(subject)])
        .await;
    desk.answer(1, "By mail.", "answer-1@shop").await;
    desk.deliver([chat("cust-7", "Hello?")
        .with_email("ada@example.com")
        .thread("t-1")])
        .await;
    desk.reply(1, "By chat.").await;
    desk.deliver([mail("ada@example.com", "Now by mail.").message_id("a-2@x")])
        .await;
    desk.reply(1, "By mail again.").await;
    desk.deliver([mail("ada@example.com", "Undeliverable.").automatic(Automatic::Bounce)])
        .await;
    desk.reply(1, "Not to the bounce's words.").await;
    // One at a time: within a conversation, answers leave in the order they were written.
    let mut table = String::new();
    for channel in ["shop-chat", "support-mail", "support-mail"] {
        let [leased] = &desk.lease(channel).await[..] else {
            panic!("one reply is due on {channel}");
        };
        let to = leased.draft.to.as_ref().unwrap();
        let thread = to.thread.as_deref().unwrap_or("-");
        let subject = to.subject.as_deref().unwrap_or("-");
        let references = to.references.join(" ");
        table += &format!(
            "{channel} to {}: {} | thread {thread} | subject {subject} | references {references}\n",
            to.address, leased.draft.text
        );
        let refused = Settlement::Refused {
            reason: "it does not matter here".to_owned(),
        };
        desk.settle(leased, refused).await;
    }
    expect![[r#"
        shop-chat to cust-7: By chat. | thread t-1 | subject Order 17 | references 
        support-mail to ada@example.com: By mail again. | thread - | subject Re: Order 17 | references a-1@x answer-1@shop a-2@x
        support-mail to ada@example.com: Not to the bounce's words. | thread - | subject Re: Order 17 | references a-1@x answer-1@shop a-2@x
    "#]].assert_eq(&table);
}

/// Their program knows the relay's id; ours brings the reply token back.
pub async fn where_a_relay_changed_the_id_later_answers_refer_to_both(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Where is it?").message_id("a-1@x")])
        .await;
    desk.reply(1, "On its way.").await;
    let leased = desk.lease("support-mail").await.pop().unwrap();
    let ids = ["ours@shop", "second-copy@relay", "first-copy@relay"];
    let sent = Settlement::Sent {
        provider_ids: ids.map(str::to_owned).to_vec(),
        namespace: Some(Namespace::email()),
        refused: Vec::new(),
    };
    desk.settle(&leased, sent).await;
    desk.deliver([mail("ada@example.com", "In my program.")
        .refers_to("second-copy@relay")
        .message_id("a-2@x")])
        .await;
    assert_eq!(desk.conversations().await.len(), 1, "it is found by any");
    desk.reply(1, "There.").await;
    let leased = desk.lease("support-mail").await.pop().unwrap();
    assert_eq!(
        leased.draft.to.unwrap().references,
        ["a-1@x", "ours@shop", "first-copy@relay", "a-2@x"]
    );
}

pub async fn a_reply_keeps_its_address_when_somebody_else_writes(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Where is my order?")
        .cc("bob@example.com")
        .message_id("a-1@x")])
        .await;
    desk.reply(1, "For Ada.").await;
    desk.deliver([mail("bob@example.com", "I am Bob.").refers_to("a-1@x")])
        .await;
    let [leased] = &desk.lease("support-mail").await[..] else {
        panic!("one reply is due")
    };
    assert_eq!(leased.draft.to.as_ref().unwrap().address, "ada@example.com");
}

async fn keyed_reply(desk: &Desk, text: &str, fingerprint: u8) -> NewReply {
    let reply = desk.reply_to(desk.conversation(1).await.id, supervisor(), text);
    NewReply {
        idempotency: Some((b"sue:key-1".to_vec(), vec![fingerprint; 32])),
        ..reply
    }
}

pub async fn a_repeated_key_gives_the_same_message_and_another_request_is_refused(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Where is my order?")])
        .await;
    let (first, _) = desk
        .store()
        .reply(keyed_reply(&desk, "On its way.", 1).await)
        .await
        .unwrap();
    desk.crash().await;
    let (again, _) = desk
        .store()
        .reply(keyed_reply(&desk, "On its way.", 1).await)
        .await
        .unwrap();
    assert_eq!(again.id, first.id);
    let other = desk
        .store()
        .reply(keyed_reply(&desk, "Something else.", 2).await)
        .await;
    assert_eq!(other.unwrap_err(), StoreError::Refused(Refusal::KeyReused));
    assert_eq!(desk.store().counts().await.unwrap().outbox, [1, 0, 0]);
    assert_eq!(desk.messages(1).await.len(), 2);
}

pub async fn a_key_is_forgotten_after_three_days(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Where is my order?")])
        .await;
    let (first, _) = desk
        .store()
        .reply(keyed_reply(&desk, "On its way.", 1).await)
        .await
        .unwrap();
    desk.hours_later(71);
    let (again, _) = desk
        .store()
        .reply(keyed_reply(&desk, "On its way.", 1).await)
        .await
        .unwrap();
    assert_eq!(again.id, first.id);
    desk.hours_later(2);
    let (other, _) = desk
        .store()
        .reply(keyed_reply(&desk, "On its way.", 1).await)
        .await
        .unwrap();
    assert_ne!(other.id, first.id);
}

pub async fn the_same_request_twice_at_once_is_one_message(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Where is my order?")])
        .await;
    let replies = (0..8).map(|_| async {
        let reply = keyed_reply(&desk, "On its way.", 1).await;
        let store = desk.store().clone();
        tokio::spawn(async move { store.reply(reply).await.unwrap().0.id })
            .await
            .unwrap()
    });
    let mut ids = futures::future::join_all(replies).await;
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(desk.store().counts().await.unwrap().outbox, [1, 0, 0]);
}

pub async fn a_note_never_leaves(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Where is my order?")])
        .await;
    let note = desk.reply_to(
        desk.conversation(1).await.id,
        supervisor(),
        "A difficult one.",
    );
    let (message, conversation) = desk.store().note(note).await.unwrap();
    assert_eq!(message.delivery, None);
    assert_eq!(conversation.status.as_str(), "queued");
    assert_eq!(desk.store().counts().await.unwrap().outbox, [0, 0, 0]);
    expect![[r#"
        #1 queued frontline normal [ada@example.com dmarc]
          m1 ada@example.com: Where is my order? | 6 first_of_contact
          - @sue: A difficult one.
    "#]]
    .assert_eq(&desk.shows().await);
}

pub async fn a_conversation_without_a_customers_message_cannot_be_answered(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([echo("cust-7", "We wrote first.")]).await;
    let reply = desk.reply_to(desk.conversation(1).await.id, supervisor(), "And again.");
    let refused = desk.store().reply(reply).await;
    assert!(
        matches!(
            refused,
            Err(StoreError::Refused(Refusal::NotAnswerable { .. }))
        ),
        "{refused:?}"
    );
}

pub async fn a_reply_goes_where_a_verified_author_wants_it_and_stays_there(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "To my work address, please.").reply_to("ada@work.example"),
        mail("eve@evil.example", "To my friend, please.")
            .claimed()
            .reply_to("friend@evil.example"),
        mail("bob@example.com", "Nowhere else.").reply_to("bob@example.com"),
    ])
    .await;
    let mut to = Vec::new();
    for number in 1..=3 {
        desk.reply(number, "Here you are.").await;
        desk.deliver([mail("ada@example.com", "Back to normal.")])
            .await;
        for leased in desk.lease("support-mail").await {
            to.push(leased.draft.to.unwrap().address);
        }
    }
    assert_eq!(
        to,
        ["ada@work.example", "eve@evil.example", "bob@example.com"]
    );
}
