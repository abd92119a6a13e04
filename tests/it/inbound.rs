//! Where requests are read: beside everything else while they are small, apart from it when not. And
//! how a source goes on after whatever ended it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use connector_api::{
    CancellationToken, Capabilities, Connector, Cursor, Error, ErrorKind, Health, InboundBatch,
    Intake, StreamSource, WebhookOutcome, WebhookReply, WebhookRequest, WebhookSource, async_trait,
};
use switchboard::api::{HookAnswer, Hooks};
use switchboard::channels::Channel;
use switchboard::health::State;
use switchboard::inbound::{Webhooks, run_source};
use tokio::sync::{Notify, mpsc};

use crate::support::{Desk, mail, within_patience};

/// Notes on which thread it reads.
#[derive(Default, Clone)]
struct Reader(Arc<Mutex<Vec<ThreadId>>>);

#[async_trait]
impl Connector for Reader {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn health(&self) -> Health {
        Health::Ready
    }

    fn webhook_source(&self) -> Option<&dyn WebhookSource> {
        Some(self)
    }
}

#[async_trait]
impl WebhookSource for Reader {
    fn verify(&self, request: &WebhookRequest) -> connector_api::Result<()> {
        match request.body.starts_with(b"forged") {
            true => Err(connector_api::Error::auth("not ours")),
            false => Ok(()),
        }
    }

    fn parse(&self, request: WebhookRequest) -> connector_api::Result<WebhookOutcome> {
        self.0.lock().unwrap().push(std::thread::current().id());
        assert!(!request.body.starts_with(b"bug"), "a bug");
        let reply = WebhookReply::json(&serde_json::json!({}));
        Ok(WebhookOutcome::Handshake(reply))
    }
}

#[tokio::test]
async fn a_large_request_is_read_on_a_thread_of_its_own() {
    let desk = Desk::new().await;
    let reader = Reader::default();
    let channel = Channel {
        id: "shop-chat".parse().unwrap(),
        brand: "main".parse().unwrap(),
        vouches: Vec::new(),
        attachment_hosts: Vec::new(),
        connector: Box::new(reader.clone()),
        capabilities: Capabilities::default(),
    };
    let channels = BTreeMap::from([(channel.id.clone(), Arc::new(channel))]);
    let webhooks = Webhooks {
        channels: Arc::new(channels).into(),
        intake: desk.intake().clone(),
    };
    let deliver = async |start: &str, bytes: usize| {
        let mut body = start.as_bytes().to_vec();
        body.resize(bytes, b' ');
        let request = WebhookRequest {
            body: body.into(),
            ..WebhookRequest::default()
        };
        webhooks.deliver("shop-chat", request).await
    };
    let (small, large) = (1_000, 300 * 1024);
    for bytes in [small, large] {
        let answer = deliver("{}", bytes).await;
        assert!(matches!(answer, HookAnswer::Accepted(_)), "{answer:?}");
        let forged = deliver("forged", bytes).await;
        assert!(
            matches!(forged, HookAnswer::Unauthorized { .. }),
            "{forged:?}"
        );
    }
    let buggy = deliver("bug", large).await;
    assert!(matches!(buggy, HookAnswer::Malformed { .. }), "{buggy:?}");
    let here = std::thread::current().id();
    let elsewhere: Vec<bool> = reader
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|id| *id != here)
        .collect();
    assert_eq!(elsewhere, [false, true, true]);
}

/// How a run of [`Troubled`] ends.
enum End {
    Error(ErrorKind),
    Panic,
    ByItself,
}

/// A mailbox with a trouble at each run, until there is none left: then it has a mail.
struct Troubled {
    left: Mutex<VecDeque<End>>,
    runs: mpsc::UnboundedSender<()>,
}

#[async_trait]
impl Connector for Troubled {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn health(&self) -> Health {
        Health::Ready
    }

    fn stream_source(&self) -> Option<&dyn StreamSource> {
        Some(self)
    }
}

#[async_trait]
impl StreamSource for Troubled {
    async fn run(
        &self,
        _: Option<Cursor>,
        intake: Arc<dyn Intake>,
        stop: CancellationToken,
    ) -> connector_api::Result<()> {
        self.runs.send(()).unwrap();
        let next = self.left.lock().unwrap().pop_front();
        match next {
            Some(End::Error(kind)) => return Err(Error::new(kind, "a trouble")),
            Some(End::Panic) => panic!("a bug"),
            Some(End::ByItself) => return Ok(()),
            None => {}
        }
        let batch = InboundBatch {
            events: vec![mail("ada@example.com", "Hello?").event],
            cursor: Some(Cursor(serde_json::json!(1))),
        };
        intake.accept(batch).await?;
        stop.cancelled().await;
        Ok(())
    }
}

#[tokio::test]
async fn chatwoot_4532_no_error_ends_the_reading_of_a_mailbox() {
    let desk = Desk::new().await;
    let (runs, mut begun) = mpsc::unbounded_channel();
    let troubles = [
        (End::Error(ErrorKind::Auth), "unauthorized"),
        (End::Error(ErrorKind::Config), "unauthorized"),
        (End::Error(ErrorKind::Unavailable), "unreachable"),
        (End::Error(ErrorKind::Malformed), "degraded"),
        (End::Error(ErrorKind::TooLarge), "degraded"),
        (End::Panic, "degraded"),
        (End::ByItself, "unreachable"),
    ];
    let (left, states): (VecDeque<_>, Vec<_>) = troubles.into_iter().unzip();
    let connector = Troubled {
        left: Mutex::new(left),
        runs,
    };
    let channel = Arc::new(Channel {
        id: "support-mail".parse().unwrap(),
        brand: "main".parse().unwrap(),
        vouches: Vec::new(),
        attachment_hosts: Vec::new(),
        capabilities: connector.capabilities(),
        connector: Box::new(connector),
    });
    let health = Arc::new(switchboard::health::Health::default());
    let (again, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let running = tokio::spawn(run_source(
        channel.clone(),
        desk.intake().clone(),
        desk.store().clone(),
        health.clone(),
        again.clone(),
        stop.clone(),
    ));
    let state = || health.snapshot().remove("channel:support-mail");
    for expected in states {
        within_patience("the next run", begun.recv()).await.unwrap();
        let is_told = |state: State| state.as_str() == expected && state.reason().is_some();
        within_patience("its end to be told", async {
            while !state().is_some_and(is_told) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // Ends the pause, whose length is another test's.
        again.notify_one();
    }
    let place = || async { desk.store().cursor(&channel.id).await.unwrap() };
    within_patience("its mail", async {
        while place().await.is_none() || state() != Some(State::Ready) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(desk.bus().read(0, 0, 10).await.unwrap().len(), 1);
    stop.cancel();
    within_patience("its end", running).await.unwrap();
}

/// A mailbox that is read although something in it is to be mended, until it is.
struct Lame {
    mended: Arc<Notify>,
}

#[async_trait]
impl Connector for Lame {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn health(&self) -> Health {
        Health::Ready
    }

    fn stream_source(&self) -> Option<&dyn StreamSource> {
        Some(self)
    }
}

#[async_trait]
impl StreamSource for Lame {
    async fn run(
        &self,
        _: Option<Cursor>,
        intake: Arc<dyn Intake>,
        stop: CancellationToken,
    ) -> connector_api::Result<()> {
        intake.degraded(Some("there is no folder \"Done\""));
        let batch = InboundBatch {
            events: vec![mail("ada@example.com", "Hello?").event],
            cursor: Some(Cursor(serde_json::json!(1))),
        };
        intake.accept(batch).await?;
        intake.heard();
        self.mended.notified().await;
        intake.degraded(None);
        stop.cancelled().await;
        Ok(())
    }
}

#[tokio::test]
async fn what_is_to_be_mended_is_told_while_messages_come_and_until_it_is() {
    let desk = Desk::new().await;
    let mended = Arc::new(Notify::new());
    let connector = Lame {
        mended: mended.clone(),
    };
    let channel = Arc::new(Channel {
        id: "support-mail".parse().unwrap(),
        brand: "main".parse().unwrap(),
        vouches: Vec::new(),
        attachment_hosts: Vec::new(),
        capabilities: connector.capabilities(),
        connector: Box::new(connector),
    });
    let health = Arc::new(switchboard::health::Health::default());
    let stop = CancellationToken::new();
    let running = tokio::spawn(run_source(
        channel.clone(),
        desk.intake().clone(),
        desk.store().clone(),
        health.clone(),
        Arc::new(Notify::new()),
        stop.clone(),
    ));
    let state = || health.snapshot().remove("channel:support-mail");
    let is_heard = || desk.intake().last_heard().contains_key(&channel.id);
    within_patience("its mail", async {
        while !is_heard() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Whoever waits for the first sign of life has had its turn.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let reason = "there is no folder \"Done\"".to_owned();
    assert_eq!(state(), Some(State::Degraded { reason }));
    mended.notify_one();
    within_patience("it to be well", async {
        while state() != Some(State::Ready) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stop.cancel();
    within_patience("its end", running).await.unwrap();
}
