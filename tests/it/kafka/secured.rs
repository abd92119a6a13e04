//! Brokers that ask who one is, and allow what was allowed by name: what is wrong is one line with what to do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use switchboard::bus::kafka::{KafkaBus, Sasl, Security, Settings, Tls, Tokens};
use switchboard::bus::{Bus, BusError, BusState};

use super::{Site, all, record, state};
use crate::peers;
use crate::peers::kafka::{Allowed, NEWCOMER, USER};
use crate::support::Authority;
use crate::support::kafka::{assigned, settings};
use crate::support::secured::{Guarded, PASSWORD, TokenServer, guarded, listed};

/// A user's ways to a broker.
struct Way {
    broker: Arc<Guarded>,
    files: tempfile::TempDir,
}

impl Way {
    fn new() -> Self {
        let (broker, files) = (guarded(), tempfile::tempdir().unwrap());
        std::fs::write(files.path().join("ca.pem"), &broker.authority.pem).unwrap();
        let stranger = Authority::new().pem;
        std::fs::write(files.path().join("stranger.pem"), stranger).unwrap();
        Self { broker, files }
    }

    fn tls(&self, ca_file: &str) -> Option<Tls> {
        Some(Tls {
            ca_file: Some(self.files.path().join(ca_file)),
            own: None,
        })
    }

    fn settings(&self, security: Security) -> Settings {
        Settings {
            security,
            ..settings(format!("127.0.0.1:{}", self.broker.broker.sasl), 1)
        }
    }
}

fn password(mechanism: &'static str, password: &str) -> Option<Sasl> {
    Some(Sasl::Password {
        mechanism,
        username: "switchboard".to_owned(),
        password: password.into(),
    })
}

fn tokens(url: &str, ca_file: Option<PathBuf>, secret: &str) -> Option<Sasl> {
    Some(Sasl::Token(Tokens {
        url: Some(url.to_owned()),
        ca_file,
        client_id: Some("switchboard".to_owned()),
        client_secret: Some(secret.into()),
        scope: None,
    }))
}

/// Waits until the bus says this of itself; where it does not, it is told what it said.
async fn told(bus: &KafkaBus, expected: &str) -> String {
    let mut state = bus.state();
    let mut heard = BTreeSet::new();
    let waiting = async {
        loop {
            if let BusState::Down(said) = &*state.borrow_and_update() {
                if said.contains(expected) {
                    return said.clone();
                }
                heard.insert(said.clone());
            }
            state.changed().await.unwrap();
        }
    };
    let waited = tokio::time::timeout(peers::PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("it never said {expected:?}, but {heard:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_tls_or_sasl_is_one_line_that_names_its_key_and_no_secret() {
    if !peers::enabled() {
        return;
    }
    let way = Way::new();
    let broker = way.broker.broker.sasl;
    let (giving, unknown) = tokio::task::block_in_place(|| {
        (
            TokenServer::open(&way.broker),
            TokenServer::unknown(&way.broker),
        )
    });
    let plain = &way.broker.broker.kafka.brokers();
    let at = |said: &str| format!("Kafka at 127.0.0.1:{broker} {said}");
    let refused = at("refuses the credentials: mend bus.sasl, bus.username and bus.password");
    let with = |ca_file: &str, sasl| {
        let tls = way.tls(ca_file);
        way.settings(Security { tls, sasl })
    };
    let ours = || Some(way.files.path().join("ca.pem"));
    let none = |tls| way.settings(Security { tls, sasl: None });
    let cases = [
        (
            with("ca.pem", password("PLAIN", "wrong-1")),
            refused.clone(),
        ),
        (
            with("ca.pem", password("SCRAM-SHA-256", "wrong-1")),
            refused.clone(),
        ),
        (
            with("ca.pem", password("SCRAM-SHA-512", "wrong-1")),
            refused,
        ),
        (
            with("stranger.pem", password("SCRAM-SHA-512", PASSWORD)),
            format!(
                "the certificate of {}",
                at("is not believed: name its authority in bus.ca_file")
            ),
        ),
        (none(None), at("hangs up on the first request")),
        (
            none(way.tls("ca.pem")),
            at("hangs up on the first request: where it wants TLS, or to know who we are"),
        ),
        (
            Settings {
                brokers: plain.clone(),
                ..none(way.tls("ca.pem"))
            },
            format!("Kafka at {plain} hangs up instead of TLS"),
        ),
        (
            with("ca.pem", tokens(&giving.url, ours(), "wrong-1")),
            format!("no token for Kafka from {}: ", giving.url),
        ),
        (
            with("ca.pem", tokens(&giving.url, None, PASSWORD)),
            format!("no token for Kafka from {}: ", giving.url),
        ),
        (
            with("ca.pem", tokens(&unknown.url, ours(), PASSWORD)),
            at(
                "refuses the credentials: mend bus.client_id and bus.scope, or what brokers expect of a token",
            ),
        ),
    ];
    let checks = cases.iter().map(async |(settings, expected)| {
        let site = Site::new();
        let bus = site.bus(settings);
        let said = told(&bus, expected).await;
        assert!(!said.contains("wrong-1") && !said.contains('\n'), "{said}");
        let refused = bus.append(vec![record(1, 1)]).await;
        assert!(matches!(refused, Err(BusError::Unavailable(why)) if why.contains(expected)));
    });
    futures::future::join_all(checks).await;
    tokio::task::block_in_place(|| drop((giving, unknown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_before_it_is_over_and_nothing_is_refused_meanwhile() {
    if !peers::enabled() {
        return;
    }
    let way = Way::new();
    let life = Duration::from_secs(20);
    let giving = tokio::task::block_in_place(|| TokenServer::short(&way.broker, life));
    let ca_file = Some(way.files.path().join("ca.pem"));
    let settings = way.settings(Security {
        tls: way.tls("ca.pem"),
        sasl: tokens(&giving.url, ca_file, PASSWORD),
    });
    let broker = way.broker.clone();
    let allowed = listed(&settings.prefix);
    let allow = tokio::task::spawn_blocking(move || broker.broker.allow(USER, &allowed));
    allow.await.unwrap();
    let site = Site::new();
    let bus = site.bus(&settings);
    state(&bus, str::is_empty).await;
    assigned(&bus, 1).await;
    let first_are_over = tokio::time::Instant::now() + life;
    let mut sent = 0;
    while tokio::time::Instant::now() < first_are_over + Duration::from_secs(2) {
        sent += 1;
        let appended = bus.append(vec![record(1, sent)]).await;
        assert!(appended.is_ok(), "record {sent}: {appended:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let read = all(&bus, sent).await;
    assert_eq!(read.values().map(Vec::len).sum::<usize>(), sent);
    tokio::task::block_in_place(|| drop(giving));
}

/// Starts a bus whose user lacks something of the list, and hears of it; and nothing more once it is allowed.
async fn check(way: &Way, user: &'static str, (what, operations): Lacking, expected: &str) {
    let allow = |all: Vec<Allowed>| {
        let broker = way.broker.clone();
        tokio::task::spawn_blocking(move || broker.broker.allow(user, &all))
    };
    let sasl = Some(Sasl::Password {
        mechanism: "PLAIN",
        username: user.to_owned(),
        password: PASSWORD.into(),
    });
    let tls = way.tls("ca.pem");
    let settings = way.settings(Security { tls, sasl });
    let lacks = |one: &Allowed| one.what == what && operations.contains(&one.operation);
    let (missing, given): (Vec<Allowed>, _) = listed(&settings.prefix).into_iter().partition(lacks);
    let all_listed = missing.len() == operations.len();
    assert!(all_listed, "{operations:?} are in the list");
    allow(given).await.unwrap();
    let site = Site::new();
    let bus = site.bus(&settings);
    let expected = expected.replace("<prefix>", &settings.prefix);
    // What is taken in and read is refused only once it is tried, as daemons do all the time.
    let attempts = async {
        loop {
            if what == "TOPIC" && operations == ["WRITE"] {
                bus.append(vec![record(1, 1)]).await.ok();
            }
            let ours = bus.assigned().borrow().first().copied();
            let wait = Duration::from_millis(100);
            match ours {
                Some(partition) => {
                    drop(tokio::time::timeout(wait, bus.read(partition, 0, 1)).await)
                }
                None => tokio::time::sleep(wait).await,
            }
        }
    };
    tokio::select! {
        _ = told(&bus, &expected) => {}
        () = attempts => {}
    }
    // It stays so, though topic and brokers are well: twice as long as until they are looked at again.
    let healed = tokio::time::timeout(Duration::from_secs(2), state(&bus, str::is_empty)).await;
    assert!(
        healed.is_err(),
        "{operations:?} are not there, and it is well"
    );
    allow(missing).await.unwrap();
    state(&bus, str::is_empty).await;
    let appended = bus.append(vec![record(1, 1)]).await;
    assert!(appended.is_ok(), "{operations:?}: {appended:?}");
    assigned(&bus, 1).await;
    let read = all(&bus, 1).await;
    assert_eq!(read.len(), 1, "{operations:?}");
}

/// On what, and which operations.
type Lacking = (&'static str, &'static [&'static str]);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_not_do_is_named_and_goes_on_once_it_may() {
    if !peers::enabled() {
        return;
    }
    let way = Way::new();
    let topic = "refuses this user the topic <prefix>.inbound: allow";
    let lacks = |operations: &'static [&'static str]| ("TOPIC", operations);
    let cases: [(&'static str, Lacking, String); 6] = [
        (
            USER,
            lacks(&["CREATE"]),
            format!("{topic} Create and Describe on it"),
        ),
        // Whoever may alter may look.
        (
            USER,
            lacks(&["DESCRIBE_CONFIGS", "ALTER_CONFIGS"]),
            "how the topic <prefix>.inbound is set: allow DescribeConfigs on it".to_owned(),
        ),
        (USER, lacks(&["READ"]), format!("{topic} Read on it")),
        (USER, lacks(&["WRITE"]), format!("{topic} Write on it")),
        // Who may write nowhere is given no number as a producer.
        (
            NEWCOMER,
            lacks(&["WRITE"]),
            "refuses this user to write: allow Write on the topics".to_owned(),
        ),
        (
            USER,
            ("GROUP", &["READ"]),
            "the consumer group <prefix>.router: allow Read on it".to_owned(),
        ),
    ];
    let checks = cases
        .iter()
        .map(|(user, lacking, expected)| check(&way, user, *lacking, expected));
    futures::future::join_all(checks).await;
}
