//! Everything delivered three times, shuffled, over 16 connections at once: the store holds what
//! one delivery leaves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Value, json};
use switchboard::store::sqlite::database_path;

use super::dump::dump;
use super::process::{Installation, PATIENCE, chat_config, json_of};
use super::shop::Shop;
use super::wire::Wire;
use crate::peers::wait_until;

const CONNECTIONS: usize = 16;
const CUSTOMERS: usize = 96;
/// So many of them were answered when the rest arrives.
const ANSWERED: usize = 48;
const EVENTS_MAX: usize = 14;
const TIMES: usize = 3;
const SEED: [u8; 32] = [7; 32];

/// An event of a customer, and over which channel it comes.
#[derive(Clone)]
struct Said {
    channel: &'static str,
    body: Value,
}

/// Which event of which customer.
type Delivery = (usize, usize);

#[test]
fn everything_three_times_shuffled_over_16_connections_leaves_what_one_delivery_leaves() {
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let days: Vec<Vec<Said>> = (0..CUSTOMERS)
        .map(|customer| day(customer, &mut rng))
        .collect();
    // The first event of each customer is in the store before.
    let once: Vec<Delivery> = (0..CUSTOMERS)
        .flat_map(|customer| (1..days[customer].len()).map(move |event| (customer, event)))
        .collect();
    let expected = left_by(&days, &once, 1);
    let thrice = shuffled(&days, &mut rng);
    assert_eq!(thrice.len(), TIMES * once.len() + (TIMES - 1) * CUSTOMERS);
    let found = left_by(&days, &thrice, CONNECTIONS);
    let only = |here: &[String], there: &[String]| {
        let only = here
            .iter()
            .filter(|line| there.binary_search(line).is_err());
        only.take(10).cloned().collect::<Vec<_>>()
    };
    let differences = (only(&expected, &found), only(&found, &expected));
    assert_eq!(
        differences,
        (vec![], vec![]),
        "only after one, only after three"
    );
    assert_eq!(found, expected);
    for table in [
        "message",
        "conversation",
        "change",
        "pending",
        "waiting",
        "event",
        "reference",
    ] {
        let has_rows = found
            .iter()
            .any(|line| line.starts_with(&format!("{table} ")));
        assert!(has_rows, "the days leave nothing in {table}");
    }
}

/// One customer's day: messages over two channels, edits, deletions and reactions that may come
/// before what they change, receipts for our answer, and other words under a known id.
fn day(customer: usize, rng: &mut TestRng) -> Vec<Said> {
    let id = format!("cust-{customer}");
    let from = |prefix: &str| json!({ "id": format!("{prefix}-{customer}"), "name": id, "email": format!("{id}@customer.example") });
    let said = |channel, body| Said { channel, body };
    let message = |id: &str, text: &str| json!({ "type": "message", "id": id, "thread": format!("t-{customer}"), "from": from("cust"), "text": text });
    let mut day = vec![said(
        "shop-chat",
        message(&format!("{customer}-0"), "Where is my order?"),
    )];
    for number in 1..rng.random_range(2..EVENTS_MAX) {
        let id = format!("{customer}-{number}");
        let target = format!("{customer}-{}", rng.random_range(0..EVENTS_MAX));
        let text = format!("This is message {number}.");
        day.push(match rng.random_range(0..10) {
            0..=2 => said("shop-chat", message(&id, &text)),
            3 => said("shop-chat", message(&id, "I want a refund for this, my money back.")),
            4 => said("field-chat", json!({ "type": "message", "id": id, "from": from("field"), "text": text })),
            5 => said("shop-chat", json!({ "type": "edit", "id": id, "target": target, "text": "Better said." })),
            6 => said("shop-chat", json!({ "type": "delete", "id": id, "target": target })),
            7 => said("shop-chat", json!({ "type": "reaction", "id": id, "target": target, "emoji": "+", "removed": rng.random_bool(0.3) })),
            8 => {
                let stage = if rng.random_bool(0.5) { "delivered" } else { "read" };
                said("shop-chat", json!({ "type": "receipt", "id": id, "target": sent_id(customer), "stage": stage }))
            }
            _ => said("shop-chat", message(&target, &format!("Other words {number}."))),
        });
    }
    day
}

/// What the shop calls our answer.
fn sent_id(customer: usize) -> String {
    format!("shop-cust-{customer}-It leaves today.")
}

/// Every event three times, in any order in which each customer's first deliveries are in theirs.
fn shuffled(days: &[Vec<Said>], rng: &mut TestRng) -> Vec<Delivery> {
    let mut next = vec![1; days.len()];
    let mut again: Vec<Delivery> = Vec::new();
    for customer in 0..days.len() {
        again.extend(std::iter::repeat_n((customer, 0), TIMES - 1));
    }
    let mut order = Vec::new();
    let mut unfinished: Vec<usize> = (0..days.len())
        .filter(|customer| days[*customer].len() > 1)
        .collect();
    while !unfinished.is_empty() || !again.is_empty() {
        let choice = rng.random_range(0..unfinished.len() + again.len());
        if let Some(customer) = unfinished.get(choice).copied() {
            let delivery = (customer, next[customer]);
            again.extend(std::iter::repeat_n(delivery, TIMES - 1));
            order.push(delivery);
            next[customer] += 1;
            if next[customer] == days[customer].len() {
                unfinished.swap_remove(choice);
            }
        } else {
            order.push(again.swap_remove(choice - unfinished.len()));
        }
    }
    order
}

/// The store of a daemon that got `deliveries` over so many connections.
fn left_by(days: &[Vec<Said>], deliveries: &[Delivery], connections: usize) -> Vec<String> {
    let shop = Shop::open();
    let daemon = Installation::start(&config(&shop));
    json_of(
        daemon
            .hook(
                "shop-chat",
                &super::process::chat("warm-up", "nobody", "Hello"),
            )
            .unwrap(),
    );
    wait_until("ids to be used", PATIENCE, || {
        daemon.metric("switchboard_routed_total") >= 1.0
    });
    // The dump tells ids by their size.
    assert!(daemon.terminate());
    daemon.run();
    let token = daemon.token("ada");
    open(&daemon, &token, days);
    let before = daemon.metric("switchboard_routed_total");
    deliver(&daemon, days, deliveries, connections);
    wait_until("everything to be decided", PATIENCE, || {
        daemon.metric("switchboard_routed_total") - before >= deliveries.len() as f64
    });
    assert!(daemon.terminate());
    let left = dump(&database_path(&daemon.dir.path().join("data")));
    assert!(!left.is_empty());
    left
}

/// Two channels of the same customers.
fn config(shop: &Shop) -> String {
    let shop_chat = chat_config(&shop.url) + "vouches = [\"email\"]\n";
    let (_, channel) = shop_chat.split_once("[channels.shop-chat]").unwrap();
    let rule =
        "[[rules]]\nname = \"refunds\"\nqueue = \"refunds\"\nwhen = { keywords = [\"refund\"] }\n";
    format!("[queues.refunds]\n{shop_chat}[channels.field-chat]{channel}{rule}")
}

/// Each customer's first message, and an answer to some of them.
fn open(daemon: &Installation, token: &str, days: &[Vec<Said>]) {
    let mut wire = Wire::open(&daemon.address);
    let warm_up = daemon
        .claim(token, "frontline")
        .expect("the first conversation");
    daemon.act(token, warm_up["id"].as_str().unwrap(), "resolve");
    for day in days {
        assert_eq!(wire.hook(day[0].channel, &day[0].body), 200);
    }
    for customer in 0..ANSWERED {
        let claimed = daemon.claim(token, "frontline").expect("a conversation");
        assert_eq!(
            claimed["messages"][0]["from"]["address"],
            format!("cust-{customer}")
        );
        let id = claimed["id"].as_str().unwrap();
        let reply = daemon.reply(token, id, &format!("answer-{customer}"), "It leaves today.");
        daemon.wait_for_delivery(token, reply["id"].as_str().unwrap(), "sent");
    }
    wait_until("the others to wait", PATIENCE, || {
        let queues = daemon.get(token, "/v1/queues").to_string();
        queues.contains(&format!("\"waiting\":{}", CUSTOMERS - ANSWERED))
    });
}

/// Each connection takes the next delivery of the list. One whose turn comes before its customer's
/// earlier events are acknowledged waits for them, as a shop's queue does.
fn deliver(daemon: &Installation, days: &[Vec<Said>], deliveries: &[Delivery], connections: usize) {
    let next = AtomicUsize::new(0);
    let acknowledged = (Mutex::new(vec![1_usize; days.len()]), Condvar::new());
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut wire = Wire::open(&daemon.address);
                while let Some((customer, event)) =
                    deliveries.get(next.fetch_add(1, Ordering::SeqCst))
                {
                    let (counts, changed) = &acknowledged;
                    let early = |counts: &mut Vec<usize>| counts[*customer] < *event;
                    drop(changed.wait_while(counts.lock().unwrap(), early).unwrap());
                    let said = &days[*customer][*event];
                    assert_eq!(wire.hook(said.channel, &said.body), 200, "{}", said.body);
                    let mut counts = counts.lock().unwrap();
                    counts[*customer] = counts[*customer].max(event + 1);
                    changed.notify_all();
                }
            });
        }
    });
}
