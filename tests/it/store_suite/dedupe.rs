//! How long an event's redelivery is told.

use std::sync::Arc;

use switchboard::router::Verdict;

use crate::support::{Backend, Desk, Said, chat, edit, mail};

/// Delivers `said` again every day, and says on which day it was first taken for new.
async fn forgotten_on_day(backend: Arc<dyn Backend>, said: Said, days_max: u64) -> Option<u64> {
    let mut desk = Desk::on(backend).await;
    assert_eq!(desk.deliver([said.clone()]).await, [Verdict::Filed]);
    for day in 1..=days_max {
        desk.hours_later(24);
        // Somebody else writes every day: that opens the day's generation.
        desk.deliver([chat(&format!("visitor-{day}"), "Hi")]).await;
        if desk.deliver([said.clone()]).await == [Verdict::Filed] {
            return Some(day);
        }
    }
    None
}

pub async fn a_pushed_event_is_remembered_for_at_least_eight_days_and_then_forgotten(
    backend: Arc<dyn Backend>,
) {
    let day = forgotten_on_day(backend, chat("cust-7", "Hello?").key("c-1"), 20).await;
    assert!(
        day.is_some_and(|day| (9..=13).contains(&day)),
        "forgotten on day {day:?}"
    );
}

pub async fn an_edit_and_an_answer_find_their_message_long_after_its_redeliveries_are_forgotten(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    let asked = |key: &str, text: &str| chat("cust-7", text).key(key).message_id(key);
    desk.deliver([asked("c-1", "Where is my order 1001?")])
        .await;
    for day in 1..=60 {
        desk.hours_later(24);
        desk.deliver([chat(&format!("visitor-{day}"), "Hi")]).await;
    }
    let edited = desk.deliver([edit("c-1", "Where is my order 1002?")]).await;
    assert_eq!(edited, [Verdict::Changed]);
    // Answering the old message, in words that would open another matter.
    desk.deliver([asked("c-2", "And still nothing").refers_to("c-1")])
        .await;
    let why = desk.messages(1).await.pop().expect("the answer");
    assert_eq!(why.explanation["join"]["rule"], 2);
}

pub async fn what_a_source_can_show_again_is_never_forgotten(backend: Arc<dyn Backend>) {
    let day = forgotten_on_day(backend, mail("ada@example.com", "Hello?").key("m-1"), 40).await;
    assert_eq!(day, None);
}

pub async fn one_event_delivered_by_many_batches_is_filed_once(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let said = chat("cust-7", "Hello?").key("c-1");
    desk.accept(vec![said; 50]).await.unwrap();
    let verdicts = desk.route(7).await;
    let filed = verdicts
        .iter()
        .filter(|verdict| **verdict == Verdict::Filed)
        .count();
    let duplicates = verdicts
        .iter()
        .filter(|verdict| **verdict == Verdict::Duplicate)
        .count();
    assert_eq!((filed, duplicates), (1, 49));
    assert_eq!(desk.messages(1).await.len(), 1);
}
