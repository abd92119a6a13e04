//! Random days at the desk: whatever is delivered again, in whatever batches, and wherever the
//! machine dies, the store holds what one quiet delivery would have left.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};
use switchboard::conversation::Status;
use switchboard::dispatch::Action;

use crate::support::{
    Desk, Local, Said, agent, chat, delete, edit, mail, reaction, show_sorted, supervisor,
};

/// Rows that a redelivery may add to: what was accepted, not what became of it.
const ACCEPTED: [&str; 4] = ["log", "body", "raw", "blob"];

/// One event of a customer's day, before it has a text.
#[derive(Debug, Clone)]
enum Event {
    Mail {
        claimed: bool,
        refund: bool,
        reply: bool,
    },
    Chat {
        with_email: bool,
        thread: bool,
    },
    Edit {
        of: usize,
    },
    Delete {
        of: usize,
    },
    Reaction {
        of: usize,
    },
    Conflict {
        of: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (prop::bool::weighted(0.2), any::<bool>(), any::<bool>())
            .prop_map(|(claimed, refund, reply)| Event::Mail { claimed, refund, reply }),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(with_email, thread)| Event::Chat { with_email, thread }),
        1 => (0..8usize).prop_map(|of| Event::Edit { of }),
        1 => (0..8usize).prop_map(|of| Event::Delete { of }),
        1 => (0..8usize).prop_map(|of| Event::Reaction { of }),
        1 => (0..8usize).prop_map(|of| Event::Conflict { of }),
    ]
}

/// What each of a few customers says, in order.
fn days() -> impl Strategy<Value = Vec<Vec<Event>>> {
    prop::collection::vec(prop::collection::vec(event(), 1..8), 1..5)
}

/// The events of one customer. Changes may name a message that is said later, or never.
fn said(customer: usize, day: &[Event]) -> Vec<Said> {
    let address = format!("customer-{customer}@example.com");
    let name = format!("cust-{customer}");
    let key = |number: usize| format!("{customer}-{number}");
    let change_of = |of: usize| format!("{customer}-{of}");
    day.iter()
        .enumerate()
        .map(|(number, event)| match event {
            Event::Mail {
                claimed,
                refund,
                reply,
            } => {
                let text = if *refund {
                    "I want a refund."
                } else {
                    "Where is my order?"
                };
                let mut said = mail(&address, text).message_id(&key(number));
                said = said.subject(if *refund { "Refund" } else { "Order" });
                said = if *reply {
                    said.refers_to(&key(number.saturating_sub(1)))
                } else {
                    said
                };
                if *claimed {
                    said.claimed().key(&key(number))
                } else {
                    said.key(&key(number))
                }
            }
            Event::Chat { with_email, thread } => {
                let mut said = chat(&name, &format!("Hello, this is message {number}."));
                said = if *thread {
                    said.thread(&format!("t-{customer}"))
                } else {
                    said
                };
                said = if *with_email {
                    said.with_email(&address)
                } else {
                    said
                };
                said.key(&key(number))
            }
            Event::Edit { of } => {
                edit(&change_of(*of), "Better said.").key(&format!("{}-edit", key(number)))
            }
            Event::Delete { of } => delete(&change_of(*of)).key(&format!("{}-delete", key(number))),
            Event::Reaction { of } => {
                reaction(&change_of(*of), "+").key(&format!("{}-reaction", key(number)))
            }
            Event::Conflict { of } => {
                chat(&name, &format!("Other words {number}.")).key(&change_of(*of))
            }
        })
        .collect()
}

/// Every event `times` over, the customers shuffled; each customer's first deliveries in order.
fn shuffled(days: &[Vec<Event>], times: usize, rng: &mut TestRng) -> Vec<Said> {
    let mut waiting: Vec<Vec<Said>> = days
        .iter()
        .enumerate()
        .map(|(customer, day)| said(customer, day).into_iter().rev().collect())
        .collect();
    let mut again: Vec<Said> = Vec::new();
    let mut delivered = Vec::new();
    while waiting.iter().any(|day| !day.is_empty()) || !again.is_empty() {
        let choice = rng.random_range(0..waiting.len() + 1);
        match waiting.get_mut(choice) {
            Some(day) => {
                if let Some(next) = day.pop() {
                    again.extend(std::iter::repeat_n(next.clone(), times - 1));
                    delivered.push(next);
                }
            }
            None if !again.is_empty() => {
                let place = rng.random_range(0..again.len());
                delivered.push(again.swap_remove(place));
            }
            None => {}
        }
    }
    delivered
}

/// What is left: content without ids and times, and how many rows of each kind.
async fn left(desk: &Desk) -> (String, Vec<(String, i64)>) {
    let rows = desk.backend().rows().await;
    let decided = rows
        .into_iter()
        .filter(|(kind, _)| !ACCEPTED.contains(&kind.as_str()));
    (show_sorted(desk.store().as_ref()).await, decided.collect())
}

/// Delivers in batches of random size, and crashes now and then if told to. A batch that the
/// store's constraints refuse fails the test: nothing may depend on them.
async fn lived_through(
    events: Vec<Said>,
    crashes: bool,
    rng: &mut TestRng,
) -> (String, Vec<(String, i64)>) {
    let mut desk = Desk::on(Arc::new(Local::new())).await;
    let mut events = events.into_iter().peekable();
    while events.peek().is_some() {
        let next: Vec<Said> = events.by_ref().take(rng.random_range(1..12)).collect();
        desk.accept(next).await.expect("the bus takes it");
        if crashes && rng.random_bool(0.2) {
            desk.crash().await;
        }
        while desk.undecided() > 0 && rng.random_bool(0.8) {
            let batch_max = rng.random_range(1..12);
            desk.route_once(batch_max)
                .await
                .expect("every batch can be decided");
        }
        if crashes && rng.random_bool(0.2) {
            desk.crash().await;
        }
    }
    desk.route(rng.random_range(1..50)).await;
    left(&desk).await
}

/// Runs `property` on random days; on a failure proptest prints the smallest it found.
fn check(cases: u32, property: impl Fn(Vec<Vec<Event>>, TestRng) -> Result<(), TestCaseError>) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let input = (days(), any::<[u8; 32]>());
    let ran = runner.run(&input, |(days, seed)| {
        property(
            days,
            TestRng::from_seed(prop::test_runner::RngAlgorithm::ChaCha, &seed),
        )
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

/// Each customer's events alone and in order, all decided one by one.
async fn quietly(days: &[Vec<Event>]) -> (String, Vec<(String, i64)>) {
    let mut desk = Desk::new().await;
    for (customer, day) in days.iter().enumerate() {
        for said in said(customer, day) {
            desk.deliver([said]).await;
        }
    }
    left(&desk).await
}

#[test]
fn everything_delivered_three_times_shuffled_leaves_what_one_delivery_leaves() {
    check(24, |days, mut rng| {
        let events = shuffled(&days, 3, &mut rng);
        let (once, thrice) = block_on(async {
            (
                quietly(&days).await,
                lived_through(events, false, &mut rng).await,
            )
        });
        prop_assert_eq!(once.0, thrice.0);
        prop_assert_eq!(once.1, thrice.1);
        Ok(())
    });
}

#[test]
fn crashes_between_any_two_steps_lose_nothing_and_double_nothing() {
    check(24, |days, mut rng| {
        let events = shuffled(&days, 2, &mut rng);
        let (once, crashed) = block_on(async {
            (
                quietly(&days).await,
                lived_through(events, true, &mut rng).await,
            )
        });
        prop_assert_eq!(once.0, crashed.0);
        prop_assert_eq!(once.1, crashed.1);
        Ok(())
    });
}

#[test]
fn every_message_is_in_one_conversation_of_consecutive_numbers() {
    check(12, |days, mut rng| {
        let events = shuffled(&days, 2, &mut rng);
        let mut expected: HashMap<String, usize> = HashMap::new();
        for (customer, day) in days.iter().enumerate() {
            for said in said(customer, day) {
                if matches!(said.event.event, connector_api::Event::Message(_)) {
                    *expected
                        .entry(said.event.dedupe_key.to_string())
                        .or_default() += 1;
                }
            }
        }
        let (filed, gaps) = block_on(async {
            let mut desk = Desk::new().await;
            desk.accept(events).await.expect("the bus takes it");
            desk.route(rng.random_range(1..50)).await;
            let (mut filed, mut gaps) = (0, 0);
            for number in 1..=desk.conversations().await.len() {
                let messages = desk.messages(number).await;
                filed += messages.len();
                gaps += messages
                    .iter()
                    .zip(1..)
                    .filter(|(message, seq)| message.seq != *seq)
                    .count();
            }
            (filed, gaps)
        });
        prop_assert_eq!(gaps, 0);
        prop_assert_eq!(filed, expected.values().sum::<usize>());
        Ok(())
    });
}

/// What an agent may do next.
#[derive(Debug, Clone, Copy)]
enum Work {
    Claim,
    Release(usize),
    Resolve(usize),
    Reopen(usize),
    Reply(usize),
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        3 => Just(Work::Claim),
        1 => (0..6usize).prop_map(Work::Release),
        1 => (0..6usize).prop_map(Work::Resolve),
        1 => (0..6usize).prop_map(Work::Reopen),
        1 => (0..6usize).prop_map(Work::Reply),
    ]
}

/// Does it, or is refused: both are fine, as long as the store agrees with itself.
async fn carry_out(desk: &Desk, work: Work) {
    let all = desk.conversations().await;
    let chosen = |number: usize| all.get(number).map(|found| found.id);
    let (number, action) = match work {
        Work::Claim => return drop(desk.claim("frontline", agent("ada")).await),
        Work::Reply(number) => {
            if let Some(id) = chosen(number) {
                drop(
                    desk.store()
                        .reply(desk.reply_to(id, supervisor(), "Hello."))
                        .await,
                );
            }
            return;
        }
        Work::Release(number) => (number, Action::Release),
        Work::Resolve(number) => (number, Action::Resolve),
        Work::Reopen(number) => (number, Action::Reopen),
    };
    if let Some(id) = chosen(number) {
        drop(
            desk.store()
                .act(id, supervisor(), action, None, desk.now())
                .await,
        );
    }
}

/// Whoever is queued waits, and nobody else; whoever is assigned has an agent, and nobody waiting has.
async fn check_who_waits(desk: &Desk) -> Result<(), TestCaseError> {
    let all = desk.conversations().await;
    for queue in desk
        .store()
        .queues(supervisor())
        .await
        .expect("reading the queues")
    {
        let queued: Vec<_> = all
            .iter()
            .filter(|found| found.status == Status::Queued && found.queue == queue.id)
            .collect();
        prop_assert_eq!(queue.waiting, queued.len() as i64);
        prop_assert_eq!(
            queue.oldest_enqueued_at,
            queued.iter().map(|found| found.enqueued_at).min()
        );
    }
    for found in &all {
        let held = matches!(found.status, Status::Assigned | Status::Wrapping);
        prop_assert!(!held || found.assignee.is_some());
        prop_assert!(found.status != Status::Queued || found.assignee.is_none());
    }
    let mut waiting: Vec<_> = all
        .iter()
        .filter(|found| found.status == Status::Queued)
        .map(|found| found.id)
        .collect();
    let mut taken = Vec::new();
    while let Some(found) = desk.claim("frontline", agent("bob")).await {
        taken.push(found.id);
    }
    waiting.sort();
    taken.sort();
    prop_assert_eq!(taken, waiting);
    Ok(())
}

#[test]
fn random_work_at_the_desk_leaves_everybody_in_one_place() {
    let config = Config {
        cases: 24,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Config::default()
    };
    let input = (
        days(),
        prop::collection::vec(work(), 0..40),
        any::<[u8; 32]>(),
    );
    let ran = TestRunner::new(config).run(&input, |(days, work, seed)| {
        let mut rng = TestRng::from_seed(prop::test_runner::RngAlgorithm::ChaCha, &seed);
        let mut events = shuffled(&days, 1, &mut rng).into_iter();
        block_on(async {
            let mut desk = Desk::new().await;
            for work in work {
                let next: Vec<Said> = events.by_ref().take(rng.random_range(0..4)).collect();
                desk.accept(next).await.expect("the bus takes it");
                desk.route(rng.random_range(1..4)).await;
                carry_out(&desk, work).await;
            }
            desk.accept(events).await.expect("the bus takes it");
            desk.route(10).await;
            check_who_waits(&desk).await
        })
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}
