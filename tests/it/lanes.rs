//! A lane over the embedded store: what it cannot send, or cannot write down, stops nobody behind
//! it. The connector is made up; faults of the store are made with SQLite's own means.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connector_api::{
    CancellationToken, Capabilities, ChannelId, Clock, Connector, Error, Health as ChannelHealth,
    OutboundMessage, Result, SendReceipt, Sender, async_trait,
};
use switchboard::channels::Channel;
use switchboard::conversation::Delivery;
use switchboard::health::{Health, State};
use switchboard::outbound::{Files, Lane, granted, health_name};
use switchboard::store::sqlite::SqliteStore;
use switchboard::store::{SettleAs, Settlement, Settling, Store};
use switchboard::wake::Wakes;

use crate::support::{Desk, Local, mail, supervisor, within_patience};

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
        let done = work.run(0, move |tx| Ok(tx.conn.batch(sql)?)).await;
        done.expect("the statement runs");
    }

    fn lane(&self, connector: impl Connector + 'static, wakes: Arc<Wakes>) -> Lane {
        Lane {
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
            wakes,
            queues: self.queues.clone(),
            health: self.health.clone(),
            ids: self.desk.keys.ids.clone(),
            files: Files::new(self.store.clone(), self.desk.blobs.clone()),
            reply_tokens: self.desk.keys.reply_tokens.clone(),
            ours: Box::new(|| true),
        }
    }

    /// Runs the lane until `texts` have left, and ends it.
    async fn runs_until(&self, texts: &[&str]) {
        let lane = self.lane(Sending(self.provider.clone()), Arc::default());
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

/// A commit whose answer was lost, and nobody could say what became of it.
#[tokio::test]
async fn what_a_lane_took_without_hearing_of_it_is_settled_while_it_runs() {
    let sent = Sent::answered(&["one", "two"]).await;
    let wakes: Arc<Wakes> = Arc::default();
    sent.sql(
        "CREATE TRIGGER away BEFORE UPDATE OF state ON outbox WHEN NEW.state = 1
         BEGIN SELECT RAISE(ABORT, 'away'); END",
    )
    .await;
    let mut lane = sent.lane(Sending(sent.provider.clone()), wakes.clone());
    let (ours, asked) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (is_ours, count) = (ours.clone(), asked.clone());
    lane.ours = Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        is_ours.load(Ordering::SeqCst)
    });
    let looks_twice = async || {
        let until = asked.load(Ordering::SeqCst) + 2;
        while asked.load(Ordering::SeqCst) < until {
            wakes.ring("support-mail");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { lane.run(stopped).await });
    within_patience("tries to take them", looks_twice()).await;
    ours.store(false, Ordering::SeqCst);
    within_patience("the last try", looks_twice()).await;
    sent.sql(
        "DROP TRIGGER away; UPDATE outbox SET state = 1 WHERE id = (SELECT min(id) FROM outbox)",
    )
    .await;
    ours.store(true, Ordering::SeqCst);
    within_patience("sending", async {
        while sent.provider.texts() != ["two"] {
            wakes.ring("support-mail");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(sent.delivery(1).await.0, Delivery::Unknown);
    stop.cancel();
    within_patience("ending the lane", running).await.unwrap();
}

#[tokio::test]
async fn a_lane_that_was_lost_sends_nothing_and_gives_back_what_it_took() {
    let sent = Sent::answered(&["one"]).await;
    let mut lane = sent.lane(Sending(sent.provider.clone()), Arc::default());
    let asked = Arc::new(AtomicUsize::new(0));
    let own = asked.clone();
    // It stood still between taking the answer and sending it.
    lane.ours = Box::new(move || own.fetch_add(1, Ordering::SeqCst) == 0);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { lane.run(stopped).await });
    within_patience("giving it back", async {
        while asked.load(Ordering::SeqCst) < 2 || sent.delivery(1).await.0 != Delivery::Queued {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    stop.cancel();
    within_patience("ending the lane", running).await.unwrap();
    assert_eq!(sent.provider.texts(), Vec::<String>::new());
    sent.runs_until(&["one"]).await;
    assert_eq!(sent.delivery(1).await.0, Delivery::Sent);
}

/// Several workers took the same answer, and each sent it.
#[tokio::test]
async fn freescout_3585_an_answer_is_sent_once_by_however_many_and_after_a_crash_by_nobody() {
    let sent = Sent::answered(&["one", "two", "three", "four"]).await;
    let channel: ChannelId = "support-mail".parse().unwrap();
    let workers = (0..8).map(|_| {
        let (store, channel, now) = (sent.store.clone(), channel.clone(), sent.desk.now());
        tokio::spawn(async move { store.lease(&channel, 2, now).await.unwrap().leased })
    });
    let mut taken = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        let leased = worker.await.unwrap();
        taken.extend(leased.into_iter().map(|leased| leased.draft.text));
    }
    taken.sort_unstable();
    assert_eq!(taken, ["four", "one", "three", "two"]);
    // Whoever had them is gone: they may have left.
    sent.runs_until(&[]).await;
    for number in 1..=4 {
        assert_eq!(sent.delivery(number).await.0, Delivery::Unknown);
    }
    assert_eq!(sent.provider.texts(), Vec::<String>::new());
}

/// The button said "sent", and nothing was.
#[tokio::test]
async fn chatwoot_14120_an_answer_sent_again_leaves_again_and_is_sent_only_then() {
    let sent = Sent::answered(&["one"]).await;
    let channel: ChannelId = "support-mail".parse().unwrap();
    let now = sent.desk.now();
    let taken = sent.store.lease(&channel, 1, now).await.unwrap().leased;
    let reason = "no answer came".to_owned();
    sent.desk
        .settle(&taken[0], Settlement::Unknown { reason })
        .await;
    let settling = Settling {
        message: taken[0].id,
        by: Some(supervisor()),
        outcome: SettleAs::Retry,
        idempotency: None,
        at: now,
    };
    let (again, rings) = sent.store.settle_held(settling).await.unwrap();
    assert_eq!(again.delivery, Some(Delivery::Queued));
    assert_eq!(rings.channels, [channel], "its lane is woken");
    sent.runs_until(&["one"]).await;
    assert_eq!(sent.delivery(1).await, (Delivery::Sent, String::new()));
}

/// A provider that is never ready: the times at which it was asked.
#[derive(Default)]
struct Greylisting(Mutex<Vec<i64>>);

struct PuttingOff {
    asked: Arc<Greylisting>,
    clock: Arc<dyn Clock>,
    error: fn() -> Error,
}

#[async_trait]
impl Connector for PuttingOff {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            send: true,
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
impl Sender for PuttingOff {
    async fn send(&self, _: &OutboundMessage) -> Result<SendReceipt> {
        let now = self.clock.now().as_second();
        let mut asked = self.asked.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(now);
        Err((self.error)())
    }
}

/// Many answers and a password that is wrong: providers lock accounts that try it for each of them.
#[tokio::test]
async fn after_a_refused_login_one_answer_tries_it_again_and_later_and_later() {
    let sent = Sent::answered(&["one", "two", "three", "four", "five"]).await;
    let asked = Arc::new(Greylisting::default());
    let wakes: Arc<Wakes> = Arc::default();
    let connector = PuttingOff {
        asked: asked.clone(),
        clock: sent.desk.clock.clone(),
        error: || Error::auth("535 5.7.8 no"),
    };
    let lane = sent.lane(connector, wakes.clone());
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { lane.run(stopped).await });
    let times = || {
        let asked = asked.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    };
    within_patience("four tries", async {
        while times().len() < 4 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if !times().is_empty() {
                sent.desk.later(Duration::from_secs(1));
            }
            wakes.ring("support-mail");
        }
    })
    .await;
    let pauses: Vec<i64> = times().windows(2).map(|two| two[1] - two[0]).collect();
    for (pause, least) in pauses.iter().zip([30, 60, 120]) {
        assert!(*pause >= least, "{pauses:?}");
    }
    let tried = times().len();
    // The clock stands still from here on.
    within_patience("a try once access is granted", async {
        while times().len() == tried {
            wakes.ring(&granted(&"support-mail".parse().unwrap()));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    stop.cancel();
    within_patience("ending the lane", running).await.unwrap();
}

/// RFC 5321, section 4.5.4.1: give up after 4 to 5 days, and not before. Elsewhere the mail server
/// was down, replies were not tried again and nobody was told.
#[tokio::test]
async fn zammad_1239_a_reply_that_is_put_off_is_tried_for_five_days_and_then_refused() {
    const DAY: i64 = 24 * 60 * 60;
    let sent = Sent::answered(&["one"]).await;
    let asked = Arc::new(Greylisting::default());
    let wakes: Arc<Wakes> = Arc::default();
    let connector = PuttingOff {
        asked: asked.clone(),
        clock: sent.desk.clock.clone(),
        error: || Error::unavailable("cannot RCPT at mx: 450 4.2.0 greylisted"),
    };
    let lane = sent.lane(connector, wakes.clone());
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { lane.run(stopped).await });
    let channel: ChannelId = "support-mail".parse().unwrap();
    within_patience("five days of tries", async {
        while sent.delivery(1).await.0 != Delivery::Refused {
            let due = sent.store.next_due(&channel, sent.desk.now()).await;
            if let Some(due) = due.unwrap()
                && due > sent.desk.now()
            {
                let pause = u64::try_from(due - sent.desk.now()).unwrap();
                sent.desk.later(Duration::from_micros(pause));
                wakes.ring(channel.as_str());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    stop.cancel();
    within_patience("ending the lane", running).await.unwrap();
    let asked = asked
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let pauses: Vec<i64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert!((5..10).contains(&pauses[0]), "soon at first: {pauses:?}");
    let early = pauses.iter().take(8);
    assert!(early.is_sorted(), "then ever later: {pauses:?}");
    let longest = pauses.iter().max().unwrap();
    assert!(
        (3_600..=5_400).contains(longest),
        "at most hourly or so: {longest}"
    );
    let age = asked.last().unwrap() - asked[0];
    assert!((5 * DAY..5 * DAY + 7_200).contains(&age), "{age} s");
    let reason = "given up after five days of tries: cannot RCPT at mx: 450 4.2.0 greylisted";
    assert_eq!(sent.delivery(1).await.1, reason);
    let status = sent.desk.conversation(1).await.status;
    assert_eq!(status.as_str(), "queued", "somebody is told");
    let lane = sent.health.snapshot()[&health_name(&channel)].clone();
    assert!(matches!(lane, State::Unreachable { .. }), "{lane:?}");
}
