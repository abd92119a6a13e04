//! Following a mailbox that is cut, renumbered, dead, slow and poisoned.

mod backfill;

use std::sync::Arc;

use connector_api::{
    BrandId, BuildContext, CancellationToken, Connector, Cursor, ErrorKind, Event, InboundBatch,
    InboundEvent, Intake, Result, async_trait,
};
use connector_testkit::{FakeProvider, FixedClock, LoopbackHttp, RecordingIntake, StaticSecrets};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::fake_imap::Options;
use crate::fake_mail::FakeMail;

/// A channel at work: run again from its cursor when it breaks, as the daemon does.
pub struct Channel {
    pub intake: Arc<RecordingIntake>,
    stop: CancellationToken,
    pub task: JoinHandle<Result<()>>,
}

pub fn build(fake: &FakeMail, change: impl FnOnce(&mut serde_json::Value)) -> Box<dyn Connector> {
    build_with(fake, Arc::default(), change)
}

/// The same by this clock.
pub fn build_with(
    fake: &FakeMail,
    clock: Arc<FixedClock>,
    change: impl FnOnce(&mut serde_json::Value),
) -> Box<dyn Connector> {
    let mut config = fake.config();
    change(&mut config);
    let context = BuildContext::new(
        "support-mail".parse().unwrap(),
        BrandId::default(),
        clock,
        Arc::new(LoopbackHttp::new()),
        Arc::new(StaticSecrets::new(fake.secrets())),
    );
    (connector_email::REGISTRATION.build)(config, context).unwrap()
}

impl Channel {
    pub fn resume(fake: &FakeMail, cursor: Option<Cursor>, poll_interval: &str) -> Self {
        let connector = build(fake, |config| {
            config["poll_interval"] = json!(poll_interval)
        });
        Self::run(connector, cursor)
    }

    pub fn run(connector: Box<dyn Connector>, cursor: Option<Cursor>) -> Self {
        let intake = Arc::new(RecordingIntake::resuming(cursor));
        let stop = CancellationToken::new();
        let task = tokio::spawn(follow(connector, Arc::clone(&intake), stop.clone()));
        Self { intake, stop, task }
    }

    pub async fn open(fake: &FakeMail) -> Self {
        let channel = Self::resume(fake, None, "60s");
        fake.imap.listening().await;
        channel
    }

    pub async fn events(&self, count: usize) -> Vec<InboundEvent> {
        self.intake.wait_for_events(count).await.unwrap();
        let events = self.intake.events();
        assert_eq!(events.len(), count, "{:?}", self.intake.keys());
        events
    }

    pub async fn stop(self) -> Option<Cursor> {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.intake.cursor()
    }
}

async fn follow(
    connector: Box<dyn Connector>,
    intake: Arc<RecordingIntake>,
    stop: CancellationToken,
) -> Result<()> {
    let source = connector.stream_source().unwrap();
    loop {
        let ended = source
            .run(intake.cursor(), intake.clone(), stop.clone())
            .await;
        match ended {
            Ok(()) => return Ok(()),
            Err(error) if error.kind == ErrorKind::Unavailable => tokio::task::yield_now().await,
            Err(error) => return Err(error),
        }
    }
}

pub fn texts(events: &[InboundEvent]) -> Vec<&str> {
    fn text(event: &InboundEvent) -> &str {
        match &event.event {
            Event::Message(message) => message.text.trim(),
            other => panic!("{other:?}"),
        }
    }
    events.iter().map(text).collect()
}

#[tokio::test]
async fn a_hundred_cuts_lose_nothing_and_repeat_nothing() {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    let mut ids = Vec::new();
    for round in 0..100 {
        ids.push(fake.customer_says(&format!("mail {round}")).await);
        if round % 3 == 0 {
            fake.imap.set(|options| options.cut_fetches = 1);
        }
        fake.imap.cut();
        ids.push(fake.customer_says(&format!("mail {round} and more")).await);
        channel.intake.wait_for_events(ids.len()).await.unwrap();
    }
    let keys: Vec<String> = ids.iter().map(|id| format!("mid:{id}")).collect();
    assert_eq!(channel.intake.keys(), keys);
    channel.stop().await;
}

#[tokio::test]
async fn each_mail_comes_once_although_fetches_break() {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    fake.imap.set(|options| options.cut_fetches = 3);
    for number in 0..5 {
        fake.customer_says(&format!("{number}")).await;
    }
    let events = channel.events(5).await;
    assert_eq!(texts(&events), ["0", "1", "2", "3", "4"]);
    channel.stop().await;
}

#[tokio::test]
async fn a_renumbered_mailbox_is_read_again_without_its_old_mail() {
    let fake = FakeMail::start().await;
    fake.customer_says("older than the channel").await;
    let channel = Channel::open(&fake).await;
    fake.customer_says("known").await;
    channel.events(1).await;
    let cursor = channel.stop().await;
    fake.imap.renumber();
    fake.customer_says("new").await;
    let channel = Channel::resume(&fake, cursor, "60s");
    let events = channel.events(2).await;
    assert_eq!(texts(&events), ["known", "new"]);
    assert!(events.iter().all(|event| !event.history));
    // And only once: the new numbers are the position from now on.
    let cursor = channel.stop().await;
    let channel = Channel::resume(&fake, cursor, "60s");
    fake.customer_says("after").await;
    assert_eq!(texts(&channel.events(1).await), ["after"]);
    channel.stop().await;
}

#[tokio::test]
async fn without_idle_the_mailbox_is_polled() {
    let fake = FakeMail::start().await;
    fake.imap.set(|options| options.no_idle = true);
    let channel = Channel::resume(&fake, None, "1s");
    fake.imap.listening().await;
    fake.customer_says("polled").await;
    assert_eq!(texts(&channel.events(1).await), ["polled"]);
    assert!(!fake.imap.commands().contains(&"IDLE".to_owned()));
    channel.stop().await;
}

/// Servers announce what they like; only more mails than before are news.
#[tokio::test]
async fn a_repeated_announcement_does_not_keep_the_line_busy() {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    for number in 0..20 {
        fake.imap.announce();
        fake.customer_says(&format!("{number}")).await;
    }
    channel.events(20).await;
    let idles = fake
        .imap
        .commands()
        .iter()
        .filter(|one| *one == "IDLE")
        .count();
    assert!(idles <= 22, "{idles} times IDLE for 20 mails");
    channel.stop().await;
}

#[tokio::test]
async fn a_push_wakes_idle_long_before_the_next_poll() {
    let fake = FakeMail::start().await;
    let channel = Channel::resume(&fake, None, "1h");
    fake.imap.listening().await;
    fake.customer_says("pushed").await;
    assert_eq!(texts(&channel.events(1).await), ["pushed"]);
    channel.stop().await;
}

#[tokio::test]
async fn a_mail_shown_late_is_found() {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    fake.imap.set(|options| options.invisible = [2].into());
    for text in ["first", "late", "third"] {
        fake.customer_says(text).await;
    }
    assert_eq!(texts(&channel.events(2).await), ["first", "third"]);
    fake.imap.set(|options| options.invisible.clear());
    fake.imap.announce();
    assert_eq!(texts(&channel.events(3).await), ["first", "third", "late"]);
    channel.stop().await;
}

/// Its storage is down, then up again: every mail arrives as it is.
async fn check_outage(change: impl FnOnce(&mut Options)) {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    let cursor = channel.stop().await;
    fake.imap.set(change);
    for text in ["first", "second", "third"] {
        fake.customer_says(text).await;
    }
    let channel = Channel::resume(&fake, cursor, "60s");
    let events = channel.events(3).await;
    assert_eq!(texts(&events), ["first", "second", "third"]);
    for event in events {
        assert_eq!(event.defects, [], "{:?}", event.event);
    }
    channel.stop().await;
}

#[tokio::test]
async fn an_outage_of_the_servers_storage_spoils_no_mail() {
    check_outage(|options| options.outage_fetches = 60).await;
    check_outage(|options| {
        options.outage_fetches = 60;
        options.outage_of_headers = true;
    })
    .await;
    check_outage(|options| options.empty_fetches = 60).await;
}

#[tokio::test]
async fn the_only_mail_is_not_given_up_at_once() {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    fake.imap.set(|options| options.outage_fetches = 60);
    fake.customer_says("alone").await;
    assert_eq!(texts(&channel.events(1).await), ["alone"]);
    channel.stop().await;
}

/// Says what reaches the intake, and how often the server had been polled by then.
struct Overheard {
    inner: RecordingIntake,
    fake: Arc<FakeMail>,
    said: mpsc::UnboundedSender<(Option<usize>, usize)>,
}

impl Overheard {
    fn say(&self, accepted: Option<usize>) {
        let commands = self.fake.imap.commands();
        let polls = commands.iter().filter(|one| one.contains("NOOP")).count();
        self.said.send((accepted, polls)).unwrap();
    }
}

#[async_trait]
impl Intake for Overheard {
    async fn accept(&self, batch: InboundBatch) -> Result<()> {
        self.say(Some(batch.events.len()));
        self.inner.accept(batch).await
    }

    fn heard(&self) {
        self.say(None);
    }
}

#[tokio::test]
async fn a_mail_that_is_given_up_is_no_sign_of_life() {
    let fake = Arc::new(FakeMail::start().await);
    let channel = Channel::open(&fake).await;
    fake.customer_says("fine").await;
    channel.events(1).await;
    let cursor = channel.stop().await;
    fake.imap.set(|options| {
        options.no_idle = true;
        options.refused_bodies = [2].into();
    });
    fake.customer_says("poisoned").await;
    let (said, mut overheard) = mpsc::unbounded_channel();
    let intake = Arc::new(Overheard {
        inner: RecordingIntake::resuming(cursor),
        fake: Arc::clone(&fake),
        said,
    });
    let connector = build(&fake, |config| config["poll_interval"] = json!("1s"));
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let source = connector.stream_source().unwrap();
        loop {
            let cursor = intake.inner.cursor();
            let run = source.run(cursor, intake.clone(), stopped.clone());
            if run.await.is_ok() {
                return;
            }
        }
    });
    let given_up_at = loop {
        match overheard.recv().await.unwrap() {
            (Some(1), polls) => break polls,
            (accepted, _) => assert_ne!(accepted, None, "heard although nothing came"),
        }
    };
    let heard_at = loop {
        if let (None, polls) = overheard.recv().await.unwrap() {
            break polls;
        }
    };
    assert!(heard_at > given_up_at, "heard before the next poll");
    stop.cancel();
    task.await.unwrap();
}

/// RFC822.SIZE is a guess on some servers; believing it must not cost memory.
#[tokio::test]
async fn a_mail_larger_than_its_server_says_is_not_read_whole() {
    let fake = FakeMail::start().await;
    let connector = build(&fake, |config| config["mail_bytes_max"] = json!(10_000));
    let channel = Channel::run(connector, None);
    fake.imap.listening().await;
    fake.imap.set(|options| options.claimed_size = Some(100));
    let (_, mail) = fake.mail("", &"x".repeat(4 * 1024 * 1024));
    fake.imap.deliver(mail);
    fake.customer_says("after it").await;
    let events = channel.events(2).await;
    let codes: Vec<&str> = events[0]
        .defects
        .iter()
        .map(|one| one.code.as_str())
        .collect();
    assert_eq!(codes, ["unreadable_on_server"]);
    assert_eq!(texts(&events), ["", "after it"]);
    channel.stop().await;
}

#[tokio::test]
async fn of_a_mail_that_is_too_large_the_headers_are_kept() {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    fake.imap
        .set(|options| options.claimed_size = Some(26 * 1024 * 1024));
    fake.customer_says("a film").await;
    let events = channel.events(1).await;
    let Event::Message(message) = &events[0].event else {
        panic!("{:?}", events[0].event);
    };
    assert_eq!(message.subject.as_deref(), Some("A question"));
    assert_eq!(message.text, "");
    assert_eq!(events[0].defects[0].code, "too_large");
    let fetched = fake.imap.commands();
    assert!(
        !fetched
            .iter()
            .any(|command| command.contains("BODY.PEEK[]"))
    );
    channel.stop().await;
}

#[tokio::test]
async fn a_long_way_and_sparse_uids_are_read_in_few_steps() {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    let cursor = channel.stop().await;
    for number in 0..2_500 {
        fake.customer_says(&format!("{number}")).await;
    }
    fake.imap.skip_uids(4_000_000_000);
    fake.customer_says("far away").await;
    let before = fake.imap.commands().len();
    let channel = Channel::resume(&fake, cursor, "60s");
    let events = channel.events(2_501).await;
    assert_eq!(texts(&events[2_499..]), ["2499", "far away"]);
    let commands = fake.imap.commands();
    let listings = commands[before..]
        .iter()
        .filter(|one| one.contains("RFC822.SIZE"));
    assert!(listings.count() < 40, "{commands:?}");
    channel.stop().await;
}

#[tokio::test]
async fn a_deleted_mail_leaves_no_hole() {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    let cursor = channel.stop().await;
    let (_, mail) = fake.mail("", "deleted by a person");
    let uid = fake.imap.deliver(mail);
    fake.imap.delete(uid);
    fake.customer_says("still there").await;
    let channel = Channel::resume(&fake, cursor, "60s");
    assert_eq!(texts(&channel.events(1).await), ["still there"]);
    channel.stop().await;
}

#[tokio::test]
async fn nothing_in_the_mailbox_is_touched() {
    let fake = FakeMail::start().await;
    let channel = Channel::open(&fake).await;
    fake.customer_says("hello").await;
    channel.events(1).await;
    channel.stop().await;
    for command in fake.imap.commands() {
        let is_harmless = ["SELECT", "STORE", "EXPUNGE", "BODY["]
            .iter()
            .all(|word| !command.contains(word));
        assert!(is_harmless, "{command}");
    }
}

#[tokio::test]
async fn an_unreadable_cursor_is_said_and_not_overwritten() {
    let fake = FakeMail::start().await;
    let channel = Channel::resume(&fake, Some(Cursor(json!("what"))), "60s");
    let error = channel.task.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config, "{error}");
    assert_eq!(channel.intake.cursor(), Some(Cursor(json!("what"))));
}
