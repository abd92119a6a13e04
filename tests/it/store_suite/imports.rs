//! What comes from files: known for ever, filed beside what the channel itself takes.

use std::sync::Arc;
use std::time::Duration;

use connector_api::Event;
use switchboard::conversation::Status;
use switchboard::router::Verdict;
use switchboard::search::Query;
use switchboard::store::imports::IMPORT_PLACE_KEPT;
use switchboard::store::retention::Periods;
use switchboard::store::search::{SearchRequest, Searched};

use crate::support::{Backend, Desk, Said, agent, channels, chat, mail, supervisor};

async fn days_pass(desk: &mut Desk, days: u64) {
    for day in 1..=days {
        desk.hours_later(24);
        // Somebody else writes every day: that opens the day's generation.
        desk.deliver([chat(&format!("visitor-{}-{day}", desk.now()), "Hi")])
            .await;
    }
}

pub async fn what_came_from_a_file_is_never_forgotten(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let said = chat("cust-7", "Hello?").key("c-1").history();
    assert_eq!(
        desk.deliver([said.clone().imported()]).await,
        [Verdict::Filed]
    );
    days_pass(&mut desk, 120).await;
    assert_eq!(
        desk.deliver([said.clone().imported()]).await,
        [Verdict::Duplicate]
    );
    assert_eq!(
        desk.deliver([said]).await,
        [Verdict::Duplicate],
        "nor when it is pushed"
    );
}

pub async fn a_file_shows_nothing_again_that_was_pushed_weeks_ago(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let said = chat("cust-7", "Hello?").key("c-1");
    desk.deliver([said.clone()]).await;
    days_pass(&mut desk, 60).await;
    assert_eq!(desk.deliver([said.imported()]).await, [Verdict::Duplicate]);
}

/// Our own mail to `to`, as an imported folder shows it.
fn wrote(to: &str, id: &str) -> Said {
    let mut said = mail(to, "It leaves today.").message_id(id).imported();
    if let Event::Message(message) = said.event.event {
        said.event.event = Event::Echo(message);
    }
    said
}

pub async fn an_answer_of_ours_in_a_file_is_known_by_the_id_it_left_under(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Where is it?")])
        .await;
    desk.answer(1, "It leaves today.", "sb1.msg_1@shop.example")
        .await;
    let ours = wrote("ada@example.com", "sb1.msg_1@shop.example").history();
    let others = wrote("ada@example.com", "by-hand@shop.example").history();
    let verdicts = desk.deliver([ours, others]).await;
    assert_eq!(verdicts, [Verdict::Duplicate, Verdict::Filed]);
}

pub async fn what_our_side_wrote_before_is_filed_closed_beside_the_customers_words(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let asked = mail("ada@example.com", "Where is it?").message_id("a@example.com");
    let answered = wrote("ada@example.com", "b@shop.example").refers_to("a@example.com");
    desk.deliver([asked.history().imported(), answered.history()])
        .await;
    assert_eq!(desk.conversations().await.len(), 1);
    assert_eq!(desk.messages(1).await.len(), 2);
    assert_eq!(desk.conversation(1).await.status, Status::Closed);
    let first = wrote("kim@example.com", "c@shop.example").history();
    desk.deliver([first]).await;
    assert_eq!(desk.conversation(2).await.status, Status::Closed);
}

const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;

/// What search finds of messages said in a time.
async fn found(desk: &Desk, after: Option<i64>, before: Option<i64>) -> usize {
    while desk.store().index(100).await.unwrap().behind > 0 {}
    let asked = SearchRequest {
        actor: supervisor(),
        query: Query::parse("parcel").unwrap(),
        queue: None,
        status: None,
        channel: None,
        from: None,
        after,
        before,
        below: None,
        limit: 100,
    };
    match desk.store().search(asked).await.unwrap() {
        Searched::Found { hits, .. } => hits.len(),
        Searched::TooBroad => panic!("too broad"),
    }
}

pub async fn history_began_and_ended_when_it_was_written(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let ago = |days: i64| desk.now() - days * DAY_MICROS;
    let [oldest, old, young] = [ago(100), ago(90), ago(50)];
    let future = ago(-10);
    let asked = |id: &str, at: i64| {
        let said = mail("ada@example.com", "Where is my parcel?").message_id(id);
        said.sent_at(at).history().imported()
    };
    let wrote_back = asked("b@example.com", young).refers_to("a@example.com");
    let earlier = asked("c@example.com", oldest).refers_to("a@example.com");
    desk.deliver([asked("a@example.com", old)]).await;
    desk.deliver([wrote_back, earlier]).await;
    let other = mail("kim@example.com", "Another parcel.").sent_at(old);
    desk.deliver([other.history().imported()]).await;
    let wrong = mail("lee@example.com", "A clock that is ahead.").sent_at(future);
    desk.deliver([wrong.history().imported()]).await;
    let now = desk.now();
    let times = async |number: usize| {
        let one = desk.conversation(number).await;
        (one.opened_at, one.last_inbound_at, one.resolved_at)
    };
    assert_eq!(times(1).await, (oldest, young, Some(young)));
    assert_eq!(times(2).await, (old, old, Some(old)));
    let (opened, _, resolved) = times(3).await;
    assert!(
        opened <= now && resolved <= Some(now),
        "never later than now"
    );

    assert_eq!(found(&desk, None, None).await, 4);
    assert_eq!(found(&desk, Some(young), None).await, 1);
    assert_eq!(found(&desk, Some(old), Some(young)).await, 2);
    assert_eq!(found(&desk, None, Some(old)).await, 1);

    // Retention counts from then, and for a conversation from the last thing said in it.
    let day = Duration::from_secs(24 * 3600);
    let kept = Periods {
        resolved: 75 * day,
        dead_letters: 90 * day,
        drafts: 90 * day,
        audit: 365 * day,
    };
    let gone = desk.store().forget(kept, 100, desk.now()).await.unwrap();
    assert_eq!((gone.conversations, gone.messages), (1, 1));
    assert_eq!(found(&desk, None, Some(young)).await, 2);
}

pub async fn history_does_not_move_what_is_dealt_with_here(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let long_ago = desk.now() - 100 * DAY_MICROS;
    desk.deliver([mail("ada@example.com", "Where is it?").message_id("a@example.com")])
        .await;
    let before = desk.conversation(1).await;
    let earlier = mail("ada@example.com", "The first mail.").refers_to("a@example.com");
    desk.deliver([earlier.clone().sent_at(long_ago).history().imported()])
        .await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    desk.resolve(1).await;
    let resolved = desk.conversation(1).await.resolved_at;
    desk.deliver([earlier.key("again").sent_at(long_ago).history().imported()])
        .await;
    let after = desk.conversation(1).await;
    assert_eq!(desk.messages(1).await.len(), 3, "it joined");
    assert_eq!(
        (after.opened_at, after.last_inbound_at, after.resolved_at),
        (before.opened_at, before.last_inbound_at, resolved)
    );
    // What the customer writes now reopens it: its window counts from here.
    desk.deliver([mail("ada@example.com", "It broke.").refers_to("a@example.com")])
        .await;
    assert_eq!(desk.conversations().await.len(), 1);
    assert!(desk.conversation(1).await.status.is_open());
}

pub async fn a_name_is_known_once_it_is_filed(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let channels = channels();
    let name = |said: &Said| desk.intake().name_of(&channels[said.channel], &said.event);
    let pushed = chat("cust-7", "Hello?").key("c-1");
    let read = mail("ada@example.com", "Hello?").key("m-1").imported();
    let other = mail("ada@example.com", "Other words").key("m-1");
    let names = vec![name(&pushed), name(&read), name(&other)];
    let store = desk.store().clone();
    assert_eq!(store.known(names.clone()).await.unwrap(), [None; 3]);
    desk.deliver([pushed, read]).await;
    let known = store.known(names).await.unwrap();
    assert!(known[0].is_some() && known[0] < known[1], "{known:?}");
    assert_eq!(known[2], None);
}

pub async fn a_file_says_nothing_about_how_its_provider_is(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Hello?").imported()])
        .await;
    assert!(desk.intake().last_heard().is_empty());
    desk.deliver([mail("ada@example.com", "Hello?")]).await;
    assert_eq!(desk.intake().last_heard().len(), 1);
}

pub async fn the_place_of_a_stopped_import_is_kept_until_it_ends_or_is_forgotten(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let store = desk.store().clone();
    let place = |text: &str| Some(text.to_owned());
    store
        .save_import_place("a", "1".to_owned(), desk.now())
        .await
        .unwrap();
    store
        .save_import_place("a", "2".to_owned(), desk.now())
        .await
        .unwrap();
    desk.crash().await;
    let store = desk.store().clone();
    assert_eq!(store.import_place("a").await.unwrap(), place("2"));
    desk.later(IMPORT_PLACE_KEPT + std::time::Duration::from_secs(1));
    store
        .save_import_place("b", "1".to_owned(), desk.now())
        .await
        .unwrap();
    assert_eq!(store.import_place("a").await.unwrap(), None);
    store.end_import("b").await.unwrap();
    assert_eq!(store.import_place("b").await.unwrap(), None);
}
