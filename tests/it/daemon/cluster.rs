//! Several processes on one Kafka and one PostgreSQL, each with its own parts of the daemon.

use std::sync::Arc;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use switchboard::bus::kafka::Settings;

use super::process::{Installation, PATIENCE, chat, chat_config};
use super::shop::Shop;
use crate::kafka::{client, topics};
use crate::peers::kafka::{Kafka, KafkaCluster};
use crate::peers::postgres::Postgres;
use crate::peers::{self, Chaos, wait_until};
use crate::support::Authority;
use crate::support::kafka::{broker, settings};

/// What the processes share.
pub struct Cluster {
    brokers: String,
    /// Brokers that each record is kept on.
    replication: u32,
    database: String,
    prefix: String,
    /// Everything else of their configuration.
    settings: String,
    files: tempfile::TempDir,
    pub postgres: Arc<Postgres>,
    _kafka: Option<Arc<Kafka>>,
}

/// Of the topic.
const PARTITIONS: u32 = 6;

pub const ALL: &str = "inbound, router, dispatch, api, outbound";

impl Cluster {
    /// On servers that other tests use, too.
    pub fn new(settings: String) -> Self {
        Self::with(broker(), Postgres::shared(), settings)
    }

    pub fn with(kafka: Arc<Kafka>, postgres: Arc<Postgres>, settings: String) -> Self {
        let brokers = kafka.brokers();
        Self::of(brokers, 1, Some(kafka), postgres, settings)
    }

    /// On brokers of the test's own.
    pub fn on(brokers: String, replication: u32, settings: String) -> Self {
        Self::of(brokers, replication, None, Postgres::shared(), settings)
    }

    fn of(
        brokers: String,
        replication: u32,
        kafka: Option<Arc<Kafka>>,
        postgres: Arc<Postgres>,
        settings: String,
    ) -> Self {
        Self {
            brokers,
            replication,
            database: postgres.make_database(),
            prefix: format!("test-{}", uuid::Uuid::now_v7().simple()),
            settings,
            files: tempfile::tempdir().unwrap(),
            postgres,
            _kafka: kafka,
        }
    }

    pub fn database_name(&self) -> &str {
        &self.database
    }

    fn database(&self) -> String {
        let port = self.postgres.port;
        format!("postgres://switchboard@127.0.0.1:{port}/{}", self.database)
    }

    /// The configuration of a process with these parts, on that database.
    pub fn config(&self, parts: &str, database: &str) -> String {
        let list = |words: std::str::Split<'_, &str>| {
            let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
            words.join(", ")
        };
        format!(
            "[run]\nparts = [{}]\n[bus]\nkind = \"kafka\"\nprefix = \"{}\"\nbrokers = [{}]\n\
             partitions = {PARTITIONS}\nreplication = {}\n\
             [store]\nkind = \"postgres\"\nurl = \"{database}\"\nblobs_dir = \"{}\"\n\
             accept_unsafe = [\"fsync\"]\n{}",
            list(parts.split(", ")),
            self.prefix,
            list(self.brokers.split(",")),
            self.replication,
            self.files.path().display(),
            self.settings
        )
    }

    /// Starts a process with these parts.
    pub fn start(&self, parts: &str) -> Installation {
        Installation::start(&self.config(parts, &self.database()))
    }

    /// One to be started with all parts, which reaches the database through `chaos`.
    pub fn behind(&self, chaos: &Chaos) -> Installation {
        let database = &self.database;
        let url = format!("postgres://switchboard@127.0.0.1:{}/{database}", chaos.port);
        Installation::new(&self.config(ALL, &url))
    }
}

#[test]
fn a_database_over_tls_is_one_whose_certificate_is_right() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let authority = Authority::new();
    let made = authority.make(2090);
    let postgres = Arc::new(Postgres::over_tls(&made.cert, &made.key));
    let cluster = Cluster::with(broker(), postgres, chat_config(&shop.url));
    let files = tempfile::tempdir().unwrap();
    let over_tls = |authority: &Authority| {
        let file = files.path().join("authority.pem");
        std::fs::write(&file, &authority.pem).unwrap();
        let config = cluster.config(ALL, &cluster.database());
        let tls = format!("[store]\ntls = \"on\"\nca_file = \"{}\"\n", file.display());
        Installation::new(&config.replace("[store]\n", &tls))
    };
    let process = over_tls(&authority);
    process.run();
    let encrypted = cluster.postgres.rows(
        cluster.database_name(),
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE application_name = 'switchboard'",
    );
    assert_eq!(encrypted, ["t"]);
    let stranger = over_tls(&Authority::new());
    std::thread::scope(|scope| {
        scope.spawn(|| stranger.run());
        wait_until("it to answer", PATIENCE, || get(&stranger, "/livez") == 200);
        wait_until("it to say why", PATIENCE, || {
            state(&stranger, "store") == "unreachable"
        });
        let answer = stranger.http.get(stranger.url("/readyz")).send().unwrap();
        let said = answer.text().unwrap();
        assert!(said.contains("invalid peer certificate"), "{said}");
        // The next try is with the right one.
        std::fs::write(files.path().join("authority.pem"), &authority.pem).unwrap();
    });
    assert_eq!(get(&stranger, "/readyz"), 200);
}

/// From now on whoever connects is cut off, until it heals.
fn away(chaos: &Chaos) {
    chaos.cut_after_bytes(0);
    chaos.cut_all();
}

fn get(process: &Installation, path: &str) -> u16 {
    let answer = process.http.get(process.url(path)).send();
    answer.map_or(0, |answer| answer.status().as_u16())
}

/// What a part says of itself.
pub fn state(process: &Installation, part: &str) -> String {
    let answer = process.http.get(process.url("/readyz")).send().unwrap();
    let said: Value = answer.json().unwrap();
    let state = said["states"][part]["state"].as_str();
    state.unwrap_or_default().to_owned()
}

#[test]
fn a_message_passes_through_processes_that_each_run_one_part() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let [inbound, _router, dispatch, api, _outbound] =
        ["inbound", "router", "dispatch", "api", "outbound"].map(|part| cluster.start(part));
    let token = api.token("ada");
    let answer = inbound.hook("shop-chat", &chat("m1", "cust-7", "Where is my order?"));
    assert_eq!(answer.unwrap().status(), 200);
    let claimed = api.claim(&token, "frontline").expect("a conversation");
    let conversation = claimed["id"].as_str().unwrap().to_owned();
    assert_eq!(claimed["messages"][0]["text"], "Where is my order?");
    let reply = api.reply(&token, &conversation, "r1", "On its way.");
    let message = reply["id"].as_str().unwrap().to_owned();
    api.wait_for_delivery(&token, &message, "sent");
    assert_eq!(shop.bodies().len(), 1);
    assert_eq!(shop.deliveries(), 1);
    for (process, path, status) in [
        (&inbound, "/v1/queues", 404),
        (&api, "/hooks/shop-chat", 404),
        (&dispatch, "/v1/queues", 404),
        (&dispatch, "/metrics", 200),
        (&dispatch, "/version", 200),
    ] {
        let request = process.http.get(process.url(path)).bearer_auth(&token);
        assert_eq!(request.send().unwrap().status(), status, "{path}");
    }
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

#[test]
fn a_process_with_other_files_or_without_rights_is_refused_with_what_to_do() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let _there = cluster.start(ALL);
    let good = cluster.config(ALL, &cluster.database());
    let files = cluster.files.path().display().to_string();
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().display().to_string();
    let stranger = cluster.database().replace("switchboard@", "nobody-knows@");
    for (config, said) in [
        (
            good.replace(&files, &elsewhere),
            "set store.blobs_dir to one directory",
        ),
        (
            cluster.config(ALL, &stranger),
            "store.url: the database refuses us",
        ),
    ] {
        let process = Installation::new(&config);
        let ended = process.command(&["run", "--listen", &process.address]);
        let told = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && told.contains(said), "{told}");
    }
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

#[test]
fn others_read_from_kafka_what_a_cluster_does_and_what_it_could_not_decide() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let queue_topics = "[fan_out]\nqueue_topics = true\n";
    let cluster = Cluster::new(format!("{queue_topics}{}", chat_config(&shop.url)));
    let [process, other] = [cluster.start(ALL), cluster.start(ALL)];
    let said = chat("m1", "cust-7", "Where is my order?");
    assert_eq!(process.hook("shop-chat", &said).unwrap().status(), 200);
    let of = Settings {
        prefix: cluster.prefix.clone(),
        ..settings(cluster.brokers.clone(), PARTITIONS)
    };
    let writer: BaseProducer = client(&of).create().unwrap();
    let foreign = b"\x00not ours\xff";
    let topic = of.topic();
    let record = BaseRecord::<str, [u8]>::to(&topic).payload(foreign);
    writer.send(record).map_err(|(error, _)| error).unwrap();
    writer.flush(PATIENCE).unwrap();
    let token = process.token("ada");
    let claimed = process.claim(&token, "frontline").expect("a conversation");
    let document = switchboard::api::asyncapi();
    for (topic, relay, message) in [
        ("events", "events", "event"),
        ("queue.frontline", "events", "queueRecord"),
        ("dead-letter", "dead-letter", "deadLetter"),
    ] {
        let name = format!("work:relay-{relay}");
        wait_until("a process to tell", PATIENCE, || {
            [&process, &other]
                .iter()
                .any(|one| state(one, &name) == "ready")
        });
        let topic_name = format!("{}.{topic}", cluster.prefix);
        let read = || topics::read(&of, &topic_name).into_iter().flatten();
        let told = |read: &topics::Read| match topic {
            "events" => read.data()["type"] == "conversation.assigned",
            "dead-letter" => read.value == foreign,
            _ => {
                let conversation = &read.data()["conversation"];
                conversation["id"] == claimed["id"] && conversation["assignee"] == "ada"
            }
        };
        wait_until(topic, PATIENCE, || read().any(|one| told(&one)));
        read().for_each(|one| topics::check(&document, message, &one));
    }
}
