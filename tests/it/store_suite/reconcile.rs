//! Whether what providers have, what was accepted, stored and routed are one set, and each gap by name.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{DedupeKey, DeliveryStage, ProviderItem, Standing, Timestamp};
use expect_test::{Expect, expect};
use switchboard::clock::timestamp;
use switchboard::dispatch::verbs::Verb;
use switchboard::ids::{IdKind, MessageId};
use switchboard::reconcile::{Outcome, Report};
use switchboard::store::{Doing, Settlement};

use super::operating::bury_next;
use super::privacy::{asking, step};
use crate::support::{
    Backend, Desk, Provider, Said, agent, chat, delete, edit, mail, reaction, receipt, reconciler,
    supervisor,
};

const MAIL: &str = "support-mail";
const HOUR: Duration = Duration::from_secs(3_600);

/// What is compared, and what is told of it.
async fn report(desk: &Desk, has: Vec<ProviderItem>, channel: Option<&str>) -> Report {
    let since = timestamp(desk.now() - i64::try_from((24 * HOUR).as_micros()).unwrap());
    let reconciler = reconciler(desk, [(MAIL, Provider::Has(has))]);
    reconciler.run(since, channel).await.expect("a report")
}

/// A line for each gap: its kind, its channel, what names it, and how to go on.
fn check(report: &Report, expected: Expect) {
    let mut lines = String::new();
    for gap in &report.gaps {
        let names = [&gap.channel, &gap.provider_id, &gap.message_id].map(|name| {
            let name = name.as_deref();
            name.unwrap_or("-").to_owned()
        });
        let next: Vec<&str> = gap.next.split('`').skip(1).step_by(2).take(1).collect();
        let next = gap
            .id
            .iter()
            .fold(next.join(" "), |next, id| next.replace(id, "ID"));
        let has = |there: bool, what: &'static str| if there { what } else { "-" };
        lines += &format!(
            "{} | {} | {} {} {} | {next}\n",
            gap.kind.as_str(),
            names.join(" | "),
            has(gap.id.is_some(), "id"),
            has(gap.conversation_id.is_some(), "conversation"),
            has(gap.at.is_some(), "at"),
        );
        assert!(!gap.next.is_empty());
    }
    lines += &format!("{:?}, {} in all\n", report.outcome, report.gaps_total);
    expected.assert_eq(&lines);
}

/// A mail as the mailbox lists it.
fn lies(desk: &Desk, uid: u32, standing: Standing, message_id: &str) -> ProviderItem {
    let mut item = ProviderItem::new(format!("INBOX, UID {uid}"), standing);
    item.message_id = Some(message_id.to_owned());
    item.keys = vec![DedupeKey::new(format!("mid:{message_id}"))];
    item.at = Some(timestamp(desk.now()));
    item
}

/// A mail that came under its Message-ID, as the connector of a mailbox has it.
fn letter(from: &str, id: &str) -> Said {
    let text = format!("I am {from} and write about {id}.");
    mail(from, &text).key(&format!("mid:{id}")).message_id(id)
}

/// The copy of a message of ours that a server of mail keeps.
fn copy_of(desk: &Desk, uid: u32, message: MessageId) -> ProviderItem {
    let id = desk.keys.ids.encode(IdKind::Message, message.0);
    lies(
        desk,
        uid,
        Standing::Copy,
        &format!("token.{id}@shop.example"),
    )
}

async fn snooze(desk: &Desk, number: usize) {
    let doing = Doing {
        conversation: desk.conversation(number).await.id,
        actor: supervisor(),
        verb: Verb::Snooze {
            until: desk.now() + 100 * 3_600_000_000,
        },
        version: None,
        at: desk.now(),
    };
    desk.store().perform(doing).await.unwrap();
}

pub async fn a_day_of_everything_that_may_be_has_no_gap(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        letter("ada@customer.example", "1@c"),
        letter("ada@customer.example", "1@c"),
        letter("bea@customer.example", "2@c").spam("x-spam-flag"),
        letter("cid@customer.example", "3@c").automatic(connector_api::Automatic::AutoReply),
        letter("dan@customer.example", "4@c").imported(),
        letter("eve@customer.example", "5@c"),
        letter("fay@customer.example", "6@c"),
        // The same id with other content is kept beside it.
        mail("ada@customer.example", "Other words.")
            .key("mid:1@c")
            .message_id("1@c"),
    ])
    .await;
    desk.deliver([
        chat("cust-7", "Hello?").key("c-1"),
        edit("c-1", "Hello!"),
        reaction("c-1", "+1"),
        delete("never-came"),
    ])
    .await;
    let answered = desk.answer(1, "It leaves today.", "sent-1").await;
    desk.deliver([receipt("sent-1", DeliveryStage::Delivered)])
        .await;
    desk.claim("frontline", agent("ada")).await.expect("work");
    desk.resolve(4).await;
    snooze(&desk, 5).await;
    let refused = desk.reply(6, "It does not arrive.").await;
    for leased in desk.lease(MAIL).await {
        let reason = "no such mailbox".to_owned();
        desk.settle(&leased, Settlement::Refused { reason }).await;
    }
    assert_ne!(refused.id, answered.id);
    let ids = ["1@c", "1@c", "2@c", "3@c", "4@c", "5@c", "6@c"];
    let numbered = (1..).zip(ids);
    let mut has: Vec<ProviderItem> = numbered
        .map(|(uid, id)| lies(&desk, uid, Standing::Passed, id))
        .collect();
    has.push(lies(&desk, 8, Standing::Outside, "before@c"));
    has.push(copy_of(&desk, 9, answered.id));
    desk.later(HOUR);
    let found = report(&desk, has.clone(), Some(MAIL)).await;
    check(
        &found,
        expect![[r#"
        Clean, 0 in all
    "#]],
    );
    let [channel] = &found.channels[..] else {
        panic!("one channel: {found:?}")
    };
    let provider = &channel.provider;
    assert_eq!(
        (
            provider.items,
            provider.accepted,
            provider.outside,
            provider.copies
        ),
        (9, 7, 1, 1)
    );
    let replies = &channel.replies;
    assert_eq!((replies.delivered, replies.refused), (1, 1), "{replies:?}");
    assert_eq!(channel.accepted.messages, 7, "{channel:?}");
    let routed = &channel.routed;
    let placed = routed.in_queues + routed.with_agents + routed.with_customers;
    assert_eq!(placed + routed.snoozed + routed.ended, 7, "{routed:?}");
    if desk.backend().has_log() {
        assert_eq!(channel.accepted.redeliveries, 1);
    }
    // Of the chats' providers nobody can ask anything, so all of it is no success.
    let found = report(&desk, has, None).await;
    assert_eq!(
        (found.outcome, found.gaps_total),
        (Outcome::Incomplete, 0),
        "{found:?}"
    );
}

pub async fn every_kind_of_gap_is_named_with_what_to_do(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let people = ["ada", "bea", "cid", "dan", "eve", "fay", "gil"];
    for (who, number) in people.iter().zip(1..) {
        desk.deliver([letter(
            &format!("{who}@customer.example"),
            &format!("{number}@c"),
        )])
        .await;
    }
    let [stored, lost, waits, twice, sleeps] = [1, 2, 3, 4, 5];
    let stored = desk.messages(stored).await[0].id.0;
    let lost = desk.conversation(lost).await.id.0;
    let waits = desk.conversation(waits).await.id.0;
    let twice = desk.conversation(twice).await;
    snooze(&desk, sleeps).await;
    // Replies: one of which nobody knows, one that is nowhere, one that is late, and two that left.
    desk.reply(6, "Perhaps.").await;
    for leased in desk.lease(MAIL).await {
        let reason = "the answer was lost".to_owned();
        desk.settle(&leased, Settlement::Unknown { reason }).await;
    }
    let copied = desk.answer(7, "With a copy.", "sent-1").await;
    desk.answer(7, "Without one.", "sent-2").await;
    let nowhere = desk.reply(7, "Nowhere.").await.id.0;
    desk.reply(7, "Late.").await;
    desk.resolve(4).await;
    let rank = twice.enqueued_at;
    for damage in [
        format!("DELETE FROM message WHERE id = {stored}"),
        format!("DELETE FROM conversation WHERE id = {lost}"),
        format!("DELETE FROM waiting WHERE id = {waits} OR id = {lost}"),
        "DELETE FROM timer".to_owned(),
        format!("DELETE FROM outbox WHERE id = {nowhere}"),
        format!(
            "INSERT INTO waiting (queue, fit_class, rank, id, enqueued_at)
             SELECT queue, 0, {rank}, id, {rank} FROM conversation WHERE id = {}",
            twice.id.0
        ),
    ] {
        desk.backend().damage(&damage).await;
    }
    desk.accept([
        letter("hal@customer.example", "8@c"),
        letter("ian@customer.example", "9@c"),
    ])
    .await
    .unwrap();
    bury_next(&mut desk, "a bug of ours").await;
    desk.later(HOUR);
    let old = |mut item: ProviderItem| {
        item.at = Some(timestamp(desk.now()) - HOUR);
        item
    };
    let mut has: Vec<ProviderItem> = (1..=9)
        .map(|uid| old(lies(&desk, uid, Standing::Passed, &format!("{uid}@c"))))
        .collect();
    has.push(old(lies(&desk, 10, Standing::Passed, "skipped@c")));
    has.push(old(lies(&desk, 11, Standing::Ahead, "unread@c")));
    has.push(old(copy_of(&desk, 12, copied.id)));
    let found = report(&desk, has, Some(MAIL)).await;
    let log = desk.backend().has_log();
    let expected = match log {
        true => expect![[r#"
            not_read | support-mail | INBOX, UID 11 | unread@c | - - at | switchboard channel test support-mail
            never_accepted | support-mail | INBOX, UID 10 | skipped@c | - - at | switchboard import support-mail FILE --live
            not_decided | support-mail | mid:9@c | 9@c | id - at | switchboard doctor
            dead_letter | support-mail | mid:8@c | 8@c | id - at | switchboard dead-letters show ID
            not_stored | support-mail | mid:1@c | 1@c | id - at | switchboard import support-mail FILE --live
            no_conversation | support-mail | - | - | id conversation at | 
            in_no_queue | support-mail | - | - | id conversation at | 
            in_two_places | support-mail | - | - | id conversation at | 
            nothing_wakes | support-mail | - | - | id conversation at | 
            reply_unknown | support-mail | - | - | id conversation at | switchboard outbox settle ID --as sent
            reply_lost | support-mail | - | - | id conversation at | 
            reply_late | support-mail | - | - | id conversation at | switchboard outbox list --channel support-mail
            no_copy | support-mail | - | - | id conversation at | 
            Gaps, 13 in all
        "#]],
        false => expect![[r#"
            not_decided | - | - | - | id - - | switchboard doctor
            not_read | support-mail | INBOX, UID 11 | unread@c | - - at | switchboard channel test support-mail
            dead_letter | support-mail | mid:8@c | 8@c | id - at | switchboard dead-letters show ID
            not_stored | support-mail | mid:1@c | 1@c | id - at | switchboard import support-mail FILE --live
            no_conversation | support-mail | - | - | id conversation at | 
            in_no_queue | support-mail | - | - | id conversation at | 
            in_two_places | support-mail | - | - | id conversation at | 
            nothing_wakes | support-mail | - | - | id conversation at | 
            reply_unknown | support-mail | - | - | id conversation at | switchboard outbox settle ID --as sent
            reply_lost | support-mail | - | - | id conversation at | 
            reply_late | support-mail | - | - | id conversation at | switchboard outbox list --channel support-mail
            no_copy | support-mail | - | - | id conversation at | 
            Gaps, 12 in all
        "#]],
    };
    check(&found, expected);
}

pub async fn what_is_young_is_under_way_and_no_gap(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([letter("ada@customer.example", "1@c")]).await;
    desk.reply(1, "It leaves in a moment.").await;
    if desk.backend().has_log() {
        desk.accept([letter("bea@customer.example", "2@c")])
            .await
            .unwrap();
    }
    let has = vec![
        lies(&desk, 1, Standing::Passed, "1@c"),
        lies(&desk, 3, Standing::Ahead, "3@c"),
        lies(&desk, 4, Standing::Behind, "4@c"),
    ];
    let found = report(&desk, has, Some(MAIL)).await;
    check(
        &found,
        expect![[r#"
        Clean, 0 in all
    "#]],
    );
    let channel = &found.channels[0];
    assert_eq!(
        (channel.provider.under_way, channel.replies.under_way),
        (2, 1)
    );
    let undecided = u64::from(desk.backend().has_log());
    assert_eq!(channel.accepted.under_way, undecided);
}

pub async fn a_provider_that_does_not_answer_or_cannot_be_asked_is_never_a_success(
    backend: Arc<dyn Backend>,
) {
    let desk = Desk::on(backend).await;
    for (channel, provider, state) in [
        (MAIL, Some(Provider::IsAway), "failed"),
        ("shop-chat", None, "cannot_be_asked"),
    ] {
        let reconciler = reconciler(&desk, provider.map(|provider| (channel, provider)));
        let found = reconciler
            .run(Timestamp::UNIX_EPOCH, Some(channel))
            .await
            .unwrap();
        assert_eq!(found.outcome, Outcome::Incomplete);
        let provider = serde_json::to_value(&found.channels[0].provider).unwrap();
        assert_eq!(provider["state"], state);
        assert!(provider["reason"].is_string());
    }
    let untold = {
        let mut item = lies(&desk, 1, Standing::Passed, "x@c");
        item.message_id = None;
        item.keys_incomplete = true;
        item
    };
    let found = report(&desk, vec![untold], Some(MAIL)).await;
    assert_eq!(
        (found.outcome, found.notes.len()),
        (Outcome::Incomplete, 1),
        "{found:?}"
    );
    let nowhere = reconciler(&desk, []);
    assert!(
        nowhere
            .run(Timestamp::UNIX_EPOCH, Some("elsewhere"))
            .await
            .is_err()
    );
}

pub async fn an_erasure_makes_no_gap_at_any_of_its_steps_and_names_nobody(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let kim = || letter("kim@customer.example", "kim-1@c");
    desk.deliver([kim(), kim(), letter("lee@customer.example", "lee-1@c")])
        .await;
    desk.deliver([letter("kim@customer.example", "kim-2@c")])
        .await;
    desk.answer(1, "It leaves today.", "sent-1").await;
    let contact = desk.conversation(1).await.contact;
    let asked = desk
        .store()
        .ask_erasure(asking(&desk, contact))
        .await
        .unwrap();
    desk.later(HOUR);
    let has = |desk: &Desk| {
        let ids = ["kim-1@c", "kim-2@c", "lee-1@c"];
        let numbered = (1..).zip(ids);
        numbered
            .map(|(uid, id)| lies(desk, uid, Standing::Passed, id))
            .collect()
    };
    loop {
        let goes_on = step(&desk, asked.id).await;
        let found = report(&desk, has(&desk), Some(MAIL)).await;
        assert_eq!(
            (found.outcome, found.gaps_total),
            (Outcome::Clean, 0),
            "{found:?}"
        );
        let told = serde_json::to_string(&found).unwrap();
        assert!(!told.contains("kim"), "{told}");
        if !goes_on {
            break;
        }
    }
    // The mailbox shows it once more.
    desk.deliver([kim()]).await;
    let found = report(&desk, has(&desk), Some(MAIL)).await;
    assert_eq!(
        (found.outcome, found.gaps_total),
        (Outcome::Clean, 0),
        "{found:?}"
    );
}
