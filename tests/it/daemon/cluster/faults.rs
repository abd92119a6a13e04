//! What is away, killed or asleep, one at a time, and how the others go on.

use std::time::Duration;

use super::{ALL, Cluster, get, state};
use crate::daemon::process::{Installation, PATIENCE, chat, chat_config};
use crate::daemon::shop::Shop;
use crate::peers::kafka::KafkaCluster;
use crate::peers::{self, Chaos, wait_until};

/// From now on whoever connects is cut off, until it heals.
fn away(chaos: &Chaos) {
    chaos.cut_after_bytes(0);
    chaos.cut_all();
}

#[test]
fn a_process_that_starts_before_its_database_is_up_says_so_and_goes_on_by_itself() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let chaos = Chaos::start(cluster.postgres.port);
    away(&chaos);
    let process = cluster.behind(&chaos);
    std::thread::scope(|scope| {
        scope.spawn(|| process.run());
        wait_until("it to answer", PATIENCE, || get(&process, "/livez") == 200);
        assert_eq!(get(&process, "/readyz"), 503);
        assert_eq!(state(&process, "store"), "unreachable");
        assert_eq!(get(&process, "/v1/queues"), 503);
        let hook = process.hook("shop-chat", &chat("m1", "cust-7", "Hello?"));
        assert_eq!(hook.unwrap().status(), 503, "the shop sends it again");
        chaos.heal();
    });
    let hook = process.hook("shop-chat", &chat("m1", "cust-7", "Hello?"));
    assert_eq!(hook.unwrap().status(), 200);
    let token = process.token("ada");
    assert!(process.claim(&token, "frontline").is_some());
}

#[test]
fn while_the_database_is_away_webhooks_are_taken_and_the_api_says_try_again() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let chaos = Chaos::start(cluster.postgres.port);
    let process = cluster.behind(&chaos);
    process.run();
    let token = process.token("ada");
    let queues = || {
        let asked = process.http.get(process.url("/v1/queues"));
        asked.bearer_auth(&token).send().unwrap()
    };
    for round in 0..3 {
        away(&chaos);
        wait_until("its state to be told", PATIENCE, || {
            state(&process, "store") == "unreachable"
        });
        let id = format!("m{round}");
        let hook = process.hook("shop-chat", &chat(&id, &id, "Hello?"));
        assert_eq!(hook.unwrap().status(), 200);
        let refused = queues();
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        chaos.heal();
        assert!(process.claim(&token, "frontline").is_some());
        wait_until("it to be ready", PATIENCE, || {
            get(&process, "/readyz") == 200
        });
        assert_eq!(queues().status(), 200);
    }
}

/// Helpdesks give up after ten seconds or more; some for a slow machine.
const TOLD_WITHIN: Duration = Duration::from_secs(18);

#[test]
fn while_the_database_hangs_helpdesks_are_answered_in_time_and_so_is_who_asks_how_it_is() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let chaos = Chaos::start(cluster.postgres.port);
    let process = cluster.behind(&chaos);
    process.run();
    let token = process.token("ada");
    let said = chat("m1", "cust-7", "Hello?");
    assert_eq!(process.hook("shop-chat", &said).unwrap().status(), 200);
    wait_until("it to be decided", PATIENCE, || {
        let sql = "SELECT count(*) FROM message";
        cluster.postgres.rows(cluster.database_name(), sql) == ["1"]
    });
    chaos.black_hole();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let claim = process.url("/v1/queues/frontline/claim");
                let asked = process.http.post(claim).bearer_auth(&token);
                let answer = asked.timeout(TOLD_WITHIN).send();
                let answer = answer.expect("an answer before a helpdesk gives up");
                assert_eq!(answer.status(), 503);
                assert!(answer.headers().contains_key("retry-after"));
            });
        }
        wait_until("its state to be told", TOLD_WITHIN, || {
            state(&process, "store") == "unreachable"
        });
    });
    chaos.heal();
    wait_until("it to be ready", PATIENCE, || {
        get(&process, "/readyz") == 200
    });
    assert!(process.claim(&token, "frontline").is_some());
}

#[test]
fn while_kafka_is_away_nothing_is_accepted_agents_go_on_and_a_process_starts_all_the_same() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let mut brokers = KafkaCluster::start(1);
    let cluster = Cluster::on(brokers.brokers(), 1, chat_config(&shop.url));
    let process = cluster.start(ALL);
    let token = process.token("ada");
    let said = |id: &str| process.hook("shop-chat", &chat(id, "cust-7", "Hello?"));
    assert_eq!(said("m1").unwrap().status(), 200);
    let claimed = process.claim(&token, "frontline").expect("a conversation");
    brokers.kill_9(0);
    wait_until("its state to be told", PATIENCE, || {
        state(&process, "bus") == "unreachable"
    });
    let refused = said("m2").unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let reply = process.reply(&token, claimed["id"].as_str().unwrap(), "r1", "Here.");
    process.wait_for_delivery(&token, reply["id"].as_str().unwrap(), "sent");
    let other = Installation::new(&cluster.config(ALL, &cluster.database()));
    std::thread::scope(|scope| {
        scope.spawn(|| other.run());
        wait_until("it to answer", PATIENCE, || get(&other, "/livez") == 200);
        assert_eq!(get(&other, "/readyz"), 503);
        brokers.start_again(0);
    });
    wait_until("the other one, too", PATIENCE, || {
        get(&process, "/readyz") == 200
    });
    assert_eq!(said("m2").unwrap().status(), 200);
    wait_until("it to be decided", PATIENCE, || {
        let id = claimed["id"].as_str().unwrap();
        process.messages(&token, id).len() == 3
    });
}

/// The processes, those first that send over the channel now.
fn lanes(processes: [Installation; 2]) -> [Installation; 2] {
    let sends = |process: &Installation| state(process, LANE) == "ready";
    wait_until("one of them to send", PATIENCE, || {
        processes.iter().any(sends)
    });
    let [one, other] = processes;
    match sends(&one) {
        true => [one, other],
        false => [other, one],
    }
}

const LANE: &str = "channel:outbound:shop-chat";

#[test]
fn what_a_killed_process_did_another_one_does() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let [sends, stands_by] = lanes([cluster.start(ALL), cluster.start(ALL)]);
    assert_eq!(state(&stands_by, LANE), "standby");
    let token = stands_by.token("ada");
    for (round, process) in [&sends, &stands_by].into_iter().enumerate() {
        let id = format!("m{round}");
        // Of a customer of each partition, likely: those of the one that is killed are decided, too.
        for customer in 0..8 {
            let said = chat(
                &format!("{id}-{customer}"),
                &format!("cust-{customer}"),
                "Hello?",
            );
            assert_eq!(process.hook("shop-chat", &said).unwrap().status(), 200);
        }
        if round == 0 {
            sends.kill_9();
        }
    }
    // Those of a partition that the killed process had are decided once Kafka has missed it.
    wait_until("all to be decided", PATIENCE, || {
        let sql = "SELECT count(*) FROM message";
        cluster.postgres.rows(cluster.database_name(), sql) == ["16"]
    });
    for answer in 0..8 {
        let claimed = stands_by
            .claim(&token, "frontline")
            .expect("all are decided");
        let conversation = claimed["id"].as_str().unwrap();
        let key = format!("r{answer}");
        let reply = stands_by.reply(&token, conversation, &key, "Here.");
        stands_by.wait_for_delivery(&token, reply["id"].as_str().unwrap(), "sent");
        let messages = stands_by.messages(&token, conversation);
        assert_eq!(messages.len(), 3, "{messages:#?}");
    }
    assert_eq!((shop.bodies().len(), shop.deliveries()), (8, 8));
    assert_eq!(state(&stands_by, LANE), "ready");
}

#[test]
fn a_process_that_stood_still_sends_nothing_that_another_one_sent_meanwhile() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let [sends, stands_by] = lanes([cluster.start(ALL), cluster.start(ALL)]);
    let token = stands_by.token("ada");
    let said = chat("m1", "cust-7", "Hello?");
    assert_eq!(stands_by.hook("shop-chat", &said).unwrap().status(), 200);
    let claimed = stands_by
        .claim(&token, "frontline")
        .expect("a conversation");
    let conversation = claimed["id"].as_str().unwrap();
    for round in 0..3 {
        let asleep = if round % 2 == 0 { &sends } else { &stands_by };
        let awake = if round % 2 == 0 { &stands_by } else { &sends };
        wait_until("it to send", PATIENCE, || state(asleep, LANE) == "ready");
        asleep.signal("STOP");
        let replies: Vec<String> = (0..5)
            .map(|reply| {
                let key = format!("r{round}-{reply}");
                let reply = awake.reply(&token, conversation, &key, &key);
                reply["id"].as_str().unwrap().to_owned()
            })
            .collect();
        for reply in &replies {
            awake.wait_for_delivery(&token, reply, "sent");
        }
        asleep.signal("CONT");
        wait_until("it to stand by", PATIENCE, || {
            state(asleep, LANE) == "standby"
        });
    }
    assert_eq!((shop.bodies().len(), shop.deliveries()), (15, 15));
}
