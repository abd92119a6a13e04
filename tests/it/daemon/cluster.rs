//! Several processes on one Kafka and one PostgreSQL, each with its own parts of the daemon.

use std::sync::Arc;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use switchboard::bus::kafka::Settings;

use super::process::{Installation, PATIENCE, chat, chat_config};
use super::shop::Shop;
use crate::kafka::{client, topics};
use crate::peers::kafka::Kafka;
use crate::peers::postgres::Postgres;
use crate::peers::{self, Chaos, wait_until};
use crate::support::Authority;
use crate::support::kafka::{broker, settings};

mod differing;
mod failover;
mod faults;
#[cfg(feature = "kafka-secured")]
mod secured;
mod trust;

/// What the processes share.
pub struct Cluster {
    pub brokers: String,
    /// Brokers that each record is kept on.
    replication: u32,
    database: String,
    pub prefix: String,
    /// Everything else of their configuration.
    settings: String,
    pub files: tempfile::TempDir,
    pub postgres: Arc<Postgres>,
    _kafka: Option<Arc<Kafka>>,
}

/// Of the topic.
pub const PARTITIONS: u32 = 6;

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

    pub fn database(&self) -> String {
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
        let prepared = self.prepare(parts);
        prepared.run();
        prepared
    }

    /// One to be started with these parts.
    pub fn prepare(&self, parts: &str) -> Installation {
        Installation::new(&self.config(parts, &self.database()))
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
    let other = cluster.postgres.make_database();
    let stranger = cluster.database().replace("switchboard@", "nobody-knows@");
    for (config, said) in [
        (
            good.replace(&files, &elsewhere),
            "set store.blobs_dir to one directory",
        ),
        (
            good.replace(cluster.database_name(), &other),
            "are of another installation",
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
fn the_doctor_tells_who_there_is_who_does_what_and_what_nobody_does() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let first = cluster.start("inbound, router");
    let second = cluster.start("dispatch, api");
    let doctor = || {
        let told = first.command(&["doctor"]);
        String::from_utf8_lossy(&told.stdout).into_owned()
    };
    let runs = |told: &str, process: &Installation, parts: &str| {
        let line = format!(
            "process {} at {} of version",
            process.pid(),
            process.address
        );
        let mut lines = told.lines().filter(|said| said.contains(&line));
        let does = format!("runs {parts}; holds ");
        lines.any(|said| said.starts_with("ok") && said.contains(&does))
    };
    let decides = format!("inbound, router; decides {PARTITIONS} partitions");
    let nobody = "fail  part: no process runs outbound: nothing is sent -> start one whose run.parts has \"outbound\"";
    let told = || {
        let told = doctor();
        let all = runs(&told, &first, &decides) && runs(&told, &second, "dispatch, api");
        all && told.contains(nobody) && told.contains("ok    database clock: ")
    };
    wait_until("both to be told of", PATIENCE, told);
    let holds = doctor();
    let retention = holds.lines().filter(|said| said.contains("work:retention"));
    assert_eq!(retention.count(), 1, "one has that lease: {holds}");
    let third = cluster.start("outbound");
    let told = || {
        let told = doctor();
        runs(&told, &third, "outbound") && !told.contains("no process runs")
    };
    wait_until("the third to be told of", PATIENCE, told);
}

/// The database's clock is set: a function of its own comes before that of the server.
#[test]
fn a_clock_that_is_not_the_databases_is_one_line_with_what_to_do() {
    if !peers::enabled() {
        return;
    }
    let shop = Shop::open();
    let cluster = Cluster::new(chat_config(&shop.url));
    let name = cluster.database_name();
    let ahead = "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
                 AS 'SELECT pg_catalog.clock_timestamp() + interval ''90 seconds'''";
    let first = format!("ALTER DATABASE {name} SET search_path = public, pg_catalog");
    cluster.postgres.run(name, ahead);
    cluster.postgres.run(name, &first);
    let process = cluster.start(ALL);
    let said = " s behind the database's: have NTP set both";
    let is_told = || process.log_text().contains(said);
    wait_until("the start to say so", PATIENCE, is_told);
    assert_eq!(state(&process, "work:clock"), "degraded");
    let told = process.command(&["doctor"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let clock = told.lines().find(|said| said.contains("database clock"));
    assert!(
        clock.is_some_and(|line| line.starts_with("fail") && line.contains(said)),
        "{told}"
    );
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
