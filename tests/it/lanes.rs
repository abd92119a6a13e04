//! A lane over the embedded store: what it cannot send, or cannot write down, stops nobody behind
//! it. The connector is made up; faults of the store are made with SQLite's own means.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connector_api::{
    CancellationToken, Capabilities, Connector, Health as ChannelHealth, OutboundMessage, Result,
    SendReceipt, Sender, async_trait,
};
use switchboard::channels::Channel;
use switchboard::conversation::Delivery;
use switchboard::health::{Health, State};
use switchboard::outbound::{Files, Lane, health_name};
use switchboard::store::sqlite::SqliteStore;
use switchboard::wake::Wakes;

use crate::support::{Desk, Local, mail, within_patience};

/// A provider that takes everything, and panics over a text that says so.
#[derive(Default)]
struct Provider {
    texts: Mutex<Vec<String>>,
}

impl Provider {
    fn texts(&self) -> Vec<String> {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.clone()
    }
}

struct Sending(Arc<Provider>);

#[async_trait]
impl Connector for Sending {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            send: true,
            sends_inflight_max: 1,
            ..Capabilities::default()
        }
    }

    async fn health(&self) -> ChannelHealth {
        ChannelHealth::Ready
    }

    fn sender(&self) -> Option<&dyn Sender> {
        Some(self)
    }
}

#[async_trait]
impl Sender for Sending {
    async fn send(&self, message: &OutboundMessage) -> Result<SendReceipt> {
        let text = message.text.clone();
        assert_ne!(text, "panic", "a connector's bug");
        let mut texts = self.0.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.push(text.clone());
        Ok(SendReceipt::accepted(vec![format!("{text}@shop")]))
    }
}

/// A desk whose mail is sent by a lane.
struct Sent {
    desk: Desk,
    store: Arc<SqliteStore>,
    provider: Arc<Provider>,
    health: Arc<Health>,
    queues: Arc<Wakes>,
}

impl Sent {
    /// Answers each with this text, one customer a text, and resolves what was answered.
    async fn answered(texts: &[&str]) -> Self {
        let local = Arc::new(Local::new());
        let mut desk = Desk::on(local.clone()).await;
        for (number, text) in (1..).zip(texts) {
            desk.deliver([mail(&format!("customer-{number}@example.com"), "Hello?")])
                .await;
            desk.reply(number, text).await;
            desk.resolve(number).await;
        }
        Self {
            store: local.store(),
            desk,
            provider: Arc::default(),
            health: Arc::default(),
            queues: Arc::default(),
        }
    }

    async fn sql(&self, sql: &'static str) {
        let work = self.store.writer();
        let done = work.run(0, move |tx| Ok(tx.conn.execute_batch(sql)?)).await;
        done.expect("the statement runs");
    }

    /// Runs the lane until `texts` have left, and ends it.
    async fn runs_until(&self, texts: &[&str]) {
        let connector = Sending(self.provider.clone());
        let lane = Lane {
            channel: Arc::new(Channel {
                id: "support-mail".parse().unwrap(),
                brand: "main".parse().unwrap(),
                vouches: Vec::new(),
                attachment_hosts: Vec::new(),
                capabilities: connector.capabilities(),
                connector: Box::new(connector),
            }),
            store: self.store.clone(),
            clock: self.desk.clock.clone(),
            wakes: Arc::default(),
            queues: self.queues.clone(),
            health: self.health.clone(),
            ids: self.desk.keys.ids.clone(),
            files: Files::new(self.store.clone(), self.desk.blobs.clone()),
            reply_tokens: self.desk.keys.reply_tokens.clone(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { lane.run(stopped).await });
        within_patience("sending", async {
            while self.provider.texts() != texts {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        stop.cancel();
        within_patience("ending the lane", running).await.unwrap();
    }

    async fn delivery(&self, number: usize) -> (Delivery, String) {
        let message = self.desk.messages(number).await.pop().unwrap();
        (
            message.delivery.unwrap(),
            message.reason.unwrap_or_default(),
        )
    }
}

#[tokio::test]
async fn a_draft_that_cannot_be_read_is_refused_and_the_next_one_leaves() {
    let sent = Sent::answered(&["one", "two", "three"]).await;
    sent.sql(
        "UPDATE body SET content = x'00ff' WHERE id = (SELECT min(id) FROM outbox);
         DELETE FROM body WHERE id = (SELECT min(id) FROM outbox WHERE id > (SELECT min(id) FROM outbox))",
    )
    .await;
    let bell = sent.queues.bell("frontline");
    let rung = bell.notified();
    sent.runs_until(&["three"]).await;
    let unreadable = "what was written cannot be read".to_owned();
    assert_eq!(sent.delivery(1).await, (Delivery::Refused, unreadable));
    let gone = "what was written is gone".to_owned();
    assert_eq!(sent.delivery(2).await, (Delivery::Refused, gone));
    assert_eq!(sent.delivery(3).await.0, Delivery::Sent);
    let back = sent.desk.conversation(1).await;
    assert_eq!(back.status.as_str(), "queued", "a person is asked");
    within_patience("the queue's bell", rung).await;
}

#[tokio::test]
async fn a_connector_that_panics_over_one_message_sends_the_others() {
    let sent = Sent::answered(&["one", "panic", "three"]).await;
    let told = sent.health.clone();
    sent.runs_until(&["one", "three"]).await;
    let reason = "the connector panicked while sending".to_owned();
    assert_eq!(sent.delivery(2).await, (Delivery::Unknown, reason));
    assert_eq!(sent.delivery(3).await.0, Delivery::Sent);
    let lane = health_name(&"support-mail".parse().unwrap());
    assert_eq!(
        told.snapshot()[&lane],
        State::Ready,
        "the last one went well"
    );
}

#[tokio::test]
async fn an_outcome_that_cannot_be_written_down_is_unknown_and_the_next_one_leaves() {
    let sent = Sent::answered(&["one", "two"]).await;
    sent.sql(
        "CREATE TRIGGER poison BEFORE UPDATE OF provider_ids ON message
         WHEN NEW.provider_ids LIKE '%one@shop%'
         BEGIN SELECT RAISE(ABORT, 'poisoned'); END",
    )
    .await;
    sent.runs_until(&["one", "two"]).await;
    let reason = "its outcome (sent) could not be written down".to_owned();
    assert_eq!(sent.delivery(1).await, (Delivery::Unknown, reason));
    assert_eq!(sent.delivery(2).await.0, Delivery::Sent);
}

#[tokio::test]
async fn what_a_lane_was_sending_when_it_broke_is_settled_when_it_starts_again() {
    let sent = Sent::answered(&["one", "two"]).await;
    let channel = "support-mail".parse().unwrap();
    let now = sent.desk.now();
    let taken = sent.desk.store().lease(&channel, 1, now).await.unwrap();
    assert_eq!(taken.leased.len(), 1, "the lane breaks here");
    sent.runs_until(&["two"]).await;
    let reason = "the lane broke while this was being sent".to_owned();
    assert_eq!(sent.delivery(1).await, (Delivery::Unknown, reason));
}
