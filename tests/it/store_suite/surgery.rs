//! Surgery: merging, splitting, moving, and taking it back.

mod contacts;
mod refused;

use std::sync::Arc;

use connector_api::{DeliveryStage, Event};
use switchboard::conversation::Delivery;
use switchboard::dispatch::surgery::Refused;
use switchboard::dispatch::{Actor, Refusal};
use switchboard::ids::{ConversationId, MessageId};
use switchboard::store::StoreError;
use switchboard::store::surgery::{Operated, Order};

use crate::support::{Backend, Desk, Said, agent, mail, receipt, supervisor};
use crate::surgery::state::State;

pub use contacts::*;
pub use refused::*;

fn order(desk: &Desk, actor: Actor) -> Order {
    Order {
        actor,
        version: None,
        other_version: None,
        idempotency: None,
        at: desk.now(),
    }
}

async fn id(desk: &Desk, number: usize) -> ConversationId {
    desk.conversation(number).await.id
}

async fn merge(desk: &Desk, from: ConversationId, into: ConversationId) -> Operated {
    let order = order(desk, supervisor());
    let merged = desk.store().merge_conversations(from, into, order).await;
    merged.expect("they can be merged")
}

async fn undo(desk: &Desk, event: i64) -> Operated {
    let undone = desk.store().undo(event, order(desk, supervisor())).await;
    undone.expect("it can be undone")
}

async fn state(desk: &Desk) -> State {
    State::read(desk.store().as_ref()).await
}

fn refused(error: StoreError) -> Refused {
    match error {
        StoreError::Refused(Refusal::Surgery(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

/// Two conversations of one customer, by mail.
async fn two(backend: Arc<dyn Backend>) -> (Desk, ConversationId, ConversationId) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "Where is my order?").message_id("a-1"),
        mail("ada@example.com", "The lamp is broken.")
            .forward()
            .message_id("b-1")
            .cc("eve@example.com"),
        mail("ada@example.com", "Any news?")
            .refers_to("a-1")
            .message_id("a-2"),
    ])
    .await;
    let (first, second) = (id(&desk, 1).await, id(&desk, 2).await);
    (desk, first, second)
}

/// Says something and checks which conversation it joined.
async fn goes(desk: &mut Desk, said: Said, expected: ConversationId, why: &str) {
    let key = format!("{why} {}", desk.now());
    desk.deliver([said.key(&key)]).await;
    let state = state(desk).await;
    let mut all = state.messages.values().flatten();
    let newest = all.clone().map(|one| one.id).max();
    let found = all.find(|one| Some(one.id) == newest).unwrap();
    assert_eq!(found.conversation, expected, "{why}");
}

fn answer(text: &str) -> Said {
    mail("ada@example.com", text)
}

pub async fn a_merge_is_one_timeline_by_arrival_and_its_undo_gives_both_back(
    backend: Arc<dyn Backend>,
) {
    let (desk, first, second) = two(backend).await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    let before = state(&desk).await.comparable();
    let merged = merge(&desk, second, first).await;
    let now = state(&desk).await;
    let texts: Vec<MessageId> = now.messages[&first].iter().map(|one| one.id).collect();
    assert!(texts.is_sorted() && texts.len() == 3);
    let [husk, whole] = &merged.conversations[..] else {
        panic!("both sides");
    };
    assert_eq!(
        (husk.status.as_str(), husk.detail.merged_into),
        ("closed", Some(first))
    );
    assert_eq!(
        (whole.status.as_str(), whole.assignee.as_deref()),
        ("assigned", Some("ada"))
    );
    let listed = desk.conversations().await;
    assert_eq!(
        listed.len(),
        1,
        "the merged one is listed only when asked for"
    );

    let undone = undo(&desk, merged.event).await;
    assert_eq!(state(&desk).await.comparable(), before);
    // Undoing the undo does it again, and that can be undone as well.
    let again = undo(&desk, undone.event).await;
    assert_eq!(state(&desk).await.messages[&first].len(), 3);
    let twice = desk
        .store()
        .undo(undone.event, order(&desk, supervisor()))
        .await;
    assert_eq!(
        refused(twice.unwrap_err()),
        Refused::AlreadyUndone { by: again.event }
    );
    undo(&desk, again.event).await;
    assert_eq!(state(&desk).await.comparable(), before);
}

pub async fn a_bounce_that_names_a_merged_conversation_is_of_the_answer_sent_in_it(
    backend: Arc<dyn Backend>,
) {
    let (mut desk, first, second) = two(backend).await;
    let sent = desk.answer(2, "We send another.", "b-2@relay").await;
    let token = desk.keys.reply_tokens.mint(second);
    merge(&desk, second, first).await;
    let mut bounce = receipt(&token, DeliveryStage::Failed);
    if let Event::Receipt { recipient, .. } = &mut bounce.event.event {
        *recipient = Some("ada@example.com".to_owned());
    }
    desk.deliver([bounce]).await;
    let messages = desk.messages(1).await;
    let sent = messages.iter().find(|one| one.id == sent.id).unwrap();
    assert_eq!(sent.delivery, Some(Delivery::Refused));
}

pub async fn whatever_names_a_merged_conversation_leads_to_the_other_until_it_is_undone(
    backend: Arc<dyn Backend>,
) {
    let (mut desk, first, second) = two(backend).await;
    let token = desk.keys.reply_tokens.mint(second);
    let merged = merge(&desk, second, first).await;
    let by_token = answer("By token.").token(&token);
    goes(&mut desk, by_token.clone(), first, "the token").await;
    goes(
        &mut desk,
        answer("So?").refers_to("b-1"),
        first,
        "a reference",
    )
    .await;
    // Who was copied in the merged one may go on writing, too.
    let copied = mail("eve@example.com", "I saw it.").refers_to("b-1");
    goes(
        &mut desk,
        copied.clone(),
        first,
        "a participant's reference",
    )
    .await;
    undo(&desk, merged.event).await;
    assert_eq!(state(&desk).await.messages[&second].len(), 4);
    goes(&mut desk, by_token, second, "the token again").await;
    goes(
        &mut desk,
        answer("So?").refers_to("b-1"),
        second,
        "a reference again",
    )
    .await;
    goes(&mut desk, copied, second, "a participant's again").await;
}

pub async fn what_came_since_goes_where_it_belongs_and_what_agents_did_stays(
    backend: Arc<dyn Backend>,
) {
    let (mut desk, first, second) = two(backend).await;
    let token = desk.keys.reply_tokens.mint(second);
    let merged = merge(&desk, second, first).await;
    let said = answer("The lamp, again.").token(&token);
    goes(&mut desk, said.message_id("b-2"), first, "by the token").await;
    desk.claim("frontline", agent("bob")).await.unwrap();
    let to_lamp = desk
        .store()
        .reply(desk.reply_to(first, agent("bob"), "A new lamp."));
    let (to_lamp, _) = to_lamp.await.unwrap();
    goes(&mut desk, answer("And my order?"), first, "the open one").await;
    let (note, _) = (desk.store().note(desk.reply_to(first, agent("bob"), "Hm.")))
        .await
        .unwrap();
    let undone = undo(&desk, merged.event).await;
    let now = state(&desk).await;
    let ids = |of| -> Vec<i64> { now.messages[&of].iter().map(|one| one.id.0).collect() };
    assert!(
        ids(second).contains(&to_lamp.id.0),
        "the answer to the lamp"
    );
    assert_eq!(ids(second).len(), 3);
    assert!(ids(first).contains(&note.id.0));
    assert_eq!(ids(first).len(), 4);
    let [back, kept] = &undone.conversations[..] else {
        panic!("both sides");
    };
    assert_eq!(
        (kept.status.as_str(), kept.assignee.as_deref()),
        ("assigned", Some("bob")),
        "what bob did stays"
    );
    assert_eq!(back.status.as_str(), "queued", "as it was");
    assert!(
        kept.detail
            .participants
            .iter()
            .all(|one| one.address == "ada@example.com")
    );
}

pub async fn an_answer_keeps_its_address_and_merging_adds_no_recipient(backend: Arc<dyn Backend>) {
    let (mut desk, first, second) = two(backend).await;
    let claimed = desk.claim("frontline", supervisor()).await.unwrap();
    assert_eq!(claimed.id, first);
    let before = desk.reply(1, "It comes tomorrow.").await;
    let merged = merge(&desk, second, first).await;
    let recipients = desk
        .store()
        .participants(supervisor(), first)
        .await
        .unwrap();
    assert!(
        recipients
            .iter()
            .all(|one| one.address != "eve@example.com")
    );
    // The newest message decides whom an answer goes to, not which conversation it came from.
    desk.deliver([mail("ada@example.com", "Thank you.").refers_to("a-2")])
        .await;
    desk.reply(1, "You are welcome.").await;
    undo(&desk, merged.event).await;
    let leased = desk.lease("support-mail").await;
    assert_eq!(leased.len(), 1, "they leave in their order");
    assert_eq!((leased[0].id, leased[0].conversation), (before.id, first));
    let addresses = leased.iter().map(|one| one.draft.to.as_ref().unwrap());
    assert!(
        addresses
            .into_iter()
            .all(|to| to.address == "ada@example.com" && to.cc.is_empty())
    );
}

pub async fn a_split_takes_its_references_along_and_its_undo_brings_everything_back(
    backend: Arc<dyn Backend>,
) {
    let (mut desk, first, _) = two(backend).await;
    let token = desk.keys.reply_tokens.mint(first);
    let second_mail = desk.messages(1).await[1].id;
    let before = state(&desk).await.comparable();
    let split =
        desk.store()
            .split_conversation(first, vec![second_mail], order(&desk, supervisor()));
    let split = split.await.unwrap();
    let new = split.conversations[1].clone();
    assert_eq!(new.matter, Some(new.founding_message()));
    assert_eq!(
        (new.contact, new.status.as_str()),
        (split.conversations[0].contact, "queued")
    );
    let undone = undo(&desk, split.event).await;
    assert_eq!(state(&desk).await.comparable(), before);

    let again = undo(&desk, undone.event).await;
    assert_eq!(again.conversations[1].id, new.id, "the same one again");
    goes(
        &mut desk,
        answer("About that.").refers_to("a-2"),
        new.id,
        "a reference",
    )
    .await;
    let both = answer("As you asked.").token(&token).refers_to("a-2");
    goes(
        &mut desk,
        both,
        new.id,
        "the message answered says more than the token",
    )
    .await;
    goes(
        &mut desk,
        answer("About this.").refers_to("a-1"),
        first,
        "what stayed",
    )
    .await;
    undo(&desk, again.event).await;
    let now = state(&desk).await;
    assert_eq!(
        (now.messages[&first].len(), now.messages[&new.id].len()),
        (5, 0)
    );
    let own = desk.keys.reply_tokens.mint(new.id);
    goes(
        &mut desk,
        answer("Late.").token(&own),
        first,
        "a token of its short life",
    )
    .await;
    let all = desk.store().split_conversation(
        first,
        now.messages[&first].iter().map(|one| one.id).collect(),
        order(&desk, supervisor()),
    );
    drop(all.await);
}

pub async fn whoever_took_part_in_what_was_merged_takes_part_where_it_is_split_off_or_moved_to(
    backend: Arc<dyn Backend>,
) {
    let (mut desk, first, second) = two(backend).await;
    let third = mail("ada@example.com", "A gift card, please.").forward();
    desk.deliver([third.message_id("c-1")]).await;
    let third = id(&desk, 3).await;
    let copied = mail("eve@example.com", "I saw it.").refers_to("b-1");
    merge(&desk, second, first).await;
    let b_1 = MessageId(second.0);
    let done = desk
        .store()
        .split_conversation(first, vec![b_1], order(&desk, supervisor()))
        .await;
    let split = done.expect("it can be split off").conversations[1].id;
    goes(&mut desk, copied.clone(), split, "where it was split off").await;
    let merged = merge(&desk, split, first).await;
    let moved = desk
        .store()
        .move_message(b_1, third, order(&desk, supervisor()))
        .await;
    let moved = moved.expect("it can be moved");
    goes(&mut desk, copied.clone(), third, "where it was moved").await;
    undo(&desk, moved.event).await;
    undo(&desk, merged.event).await;
    goes(&mut desk, copied, split, "where it is again").await;
}

pub async fn a_moved_message_takes_its_place_by_arrival_and_goes_back_to_where_it_was(
    backend: Arc<dyn Backend>,
) {
    let (mut desk, first, second) = two(backend).await;
    let message = desk.messages(1).await[1].id;
    desk.deliver([answer("The lamp is blue.").refers_to("b-1")])
        .await;
    let before = state(&desk).await;
    let moved = desk
        .store()
        .move_message(message, second, order(&desk, supervisor()));
    let moved = moved.await.unwrap();
    let now = state(&desk).await;
    let ids: Vec<i64> = now.messages[&second].iter().map(|one| one.id.0).collect();
    assert!(ids.is_sorted() && ids.len() == 3 && ids[1] == message.0);
    goes(
        &mut desk,
        answer("That one.").refers_to("a-2"),
        second,
        "a reference",
    )
    .await;
    undo(&desk, moved.event).await;
    let now = state(&desk).await;
    assert_eq!(now.messages[&first].len(), 3, "what answered it goes along");
    assert_eq!(now.messages[&second].len(), before.messages[&second].len());
    let last = desk
        .store()
        .move_message(ids[0].into_message(), first, order(&desk, supervisor()));
    last.await.unwrap();
    let last = desk
        .store()
        .move_message(ids[2].into_message(), first, order(&desk, supervisor()));
    assert_eq!(refused(last.await.unwrap_err()), Refused::NothingLeft);
}

trait IntoMessage {
    fn into_message(self) -> MessageId;
}

impl IntoMessage for i64 {
    fn into_message(self) -> MessageId {
        MessageId(self)
    }
}
