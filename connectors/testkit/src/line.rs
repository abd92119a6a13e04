//! One channel at work: a connector, an intake, and whatever carries items from one to the other.
//! It plays the daemon's part, so that a case reads the same for webhooks, polling and streams.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    Connector, Cursor, ErrorKind, InboundBatch, InboundEvent, Intake as _, WebhookOutcome,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::intake::{RecordingIntake, wait_max};
use crate::kit::{Kit, Verdict, verified};

/// How long a stream may take to end after `stop`: the daemon gives 10 s to everything together.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// Pause before a stream that broke is run again.
const RESTART_PAUSE: Duration = Duration::from_millis(10);

/// Runs of one stream before the line gives up: enough for every reconnect that a case makes.
const RUNS_MAX: usize = 200;

/// Polls in search of one item.
const POLLS_MAX: usize = 50;

pub(crate) struct Line<'a> {
    kit: &'a Kit,
    pub connector: Arc<dyn Connector>,
    pub intake: Arc<RecordingIntake>,
    stream: Option<StreamRun>,
    /// How many of the accepted events were handed to the case.
    taken: Cell<usize>,
}

impl<'a> Line<'a> {
    /// A first start: no cursor, a connector of its own, connected when this returns.
    pub async fn open(kit: &'a Kit) -> Verdict<Self> {
        Self::resume(kit, None).await
    }

    /// A start after the daemon was down, from the cursor it had stored.
    pub async fn resume(kit: &'a Kit, cursor: Option<Cursor>) -> Verdict<Self> {
        let intake = RecordingIntake::resuming(cursor.as_ref().map(through_json).transpose()?);
        let mut line = Self {
            kit,
            connector: kit.connector()?,
            intake: Arc::new(intake),
            stream: None,
            taken: Cell::new(0),
        };
        line.start().await?;
        Ok(line)
    }

    async fn start(&mut self) -> Verdict {
        if self.connector.webhook_source().is_some() {
            return Ok(());
        }
        if self.connector.stream_source().is_some() {
            let run = StreamRun::start(Arc::clone(&self.connector), Arc::clone(&self.intake));
            self.stream = Some(run);
            return self.connected().await;
        }
        // A polling channel that begins at now has its place from its first poll.
        match self.intake.cursor() {
            None => self.poll_once().await.map(drop),
            Some(_) => Ok(()),
        }
    }

    /// Waits until the fake sees the stream listening.
    pub async fn connected(&self) -> Verdict {
        tokio::time::timeout(wait_max(), self.kit.provider.connected())
            .await
            .map_err(|_| format!("the stream did not connect within {:?}", wait_max()))
    }

    /// Carries the item over and returns the next event that the case has not seen.
    pub async fn receive(&self, id: &str) -> Verdict<InboundEvent> {
        let place = self.taken.get();
        if self.connector.webhook_source().is_some() {
            self.post(id).await?;
        }
        self.receive_until(place + 1).await?;
        self.taken.set(place + 1);
        let event = self.intake.events().into_iter().nth(place);
        event.ok_or_else(|| format!("item {id} made no event"))
    }

    /// Carries items over until `count` were accepted in all.
    pub async fn receive_until(&self, count: usize) -> Verdict {
        if self.intake.events().len() >= count {
            return Ok(());
        }
        match self.connector.poll_source() {
            Some(_) if self.stream.is_none() => self.poll_until(count).await,
            _ => self.intake.wait_for_events(count).await,
        }
    }

    /// Verifies, reads and accepts, as the daemon does before it answers.
    async fn post(&self, id: &str) -> Verdict {
        let request = self.kit.provider.webhook_for(id);
        let source = self.connector.webhook_source().ok_or("no webhook source")?;
        verified(source, &request)
            .await
            .map_err(|error| format!("a genuine delivery was refused: {error}"))?;
        let outcome = source
            .parse(request)
            .map_err(|error| format!("a genuine delivery was not read: {error}"))?;
        let WebhookOutcome::Events { events, .. } = outcome else {
            return Err(format!("the delivery of {id} was taken for a handshake"));
        };
        let batch = InboundBatch {
            events,
            cursor: None,
        };
        self.intake
            .accept(batch)
            .await
            .map_err(|error| error.message)
    }

    async fn poll_until(&self, count: usize) -> Verdict {
        for _ in 0..POLLS_MAX {
            if self.intake.events().len() >= count {
                return Ok(());
            }
            let accepted = self.poll_once().await?;
            accepted.map_err(|error| error.message)?;
        }
        let found = self.intake.events().len();
        Err(format!(
            "{POLLS_MAX} polls brought {found} of {count} events"
        ))
    }

    /// One turn of the daemon's loop: poll, make durable, say so.
    pub async fn poll_once(&self) -> Verdict<connector_api::Result<()>> {
        let source = self.connector.poll_source().ok_or("no poll source")?;
        let after = self
            .intake
            .cursor()
            .as_ref()
            .map(through_json)
            .transpose()?;
        let batch = source
            .poll(after.as_ref())
            .await
            .map_err(|error| format!("cannot poll: {error}"))?;
        let cursor = batch.cursor.clone();
        let accepted = self.intake.accept(batch).await;
        if let (Ok(()), Some(cursor)) = (&accepted, &cursor) {
            let committed = source.committed(cursor).await;
            committed.map_err(|error| format!("cannot confirm a cursor: {error}"))?;
        }
        Ok(accepted)
    }

    /// An orderly stop; the cursor is the last one that was accepted.
    pub async fn stop(mut self) -> Verdict<Option<Cursor>> {
        if let Some(run) = self.stream.take() {
            run.stop().await?;
        }
        Ok(self.intake.cursor())
    }

    /// An orderly stop while the intake still holds a batch: the daemon does not wait for it.
    pub async fn stop_held(self) -> Verdict {
        self.stop().await.map(drop)
    }

    /// The process is gone in the middle of whatever it did.
    pub async fn kill(mut self) -> Option<Cursor> {
        if let Some(run) = self.stream.take() {
            run.kill().await;
        }
        self.intake.cursor()
    }
}

/// What a cursor is after it was stored and read back.
pub(crate) fn through_json(cursor: &Cursor) -> Verdict<Cursor> {
    let stored =
        serde_json::to_string(cursor).map_err(|error| format!("cannot store a cursor: {error}"))?;
    serde_json::from_str(&stored).map_err(|error| format!("cannot read a cursor back: {error}"))
}

/// A stream under the daemon's care: run again from the last accepted cursor when it breaks.
pub(crate) struct StreamRun {
    stop: CancellationToken,
    task: JoinHandle<connector_api::Result<()>>,
}

impl StreamRun {
    pub fn start(connector: Arc<dyn Connector>, intake: Arc<RecordingIntake>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep_running(connector, intake, stop.clone()));
        Self { stop, task }
    }

    /// Waits for the stream to end by itself, which it does only for errors that a retry cannot help.
    pub async fn ended(self) -> Verdict<connector_api::Result<()>> {
        match tokio::time::timeout(wait_max(), self.task).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(panic)) => Err(format!("the stream panicked: {panic}")),
            Err(_) => Err(format!("the stream still ran after {:?}", wait_max())),
        }
    }

    pub async fn stop(self) -> Verdict {
        self.stop.cancel();
        match tokio::time::timeout(STOP_TIME_MAX, self.task).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(format!("the stream ended with: {error}")),
            Ok(Err(panic)) => Err(format!("the stream panicked: {panic}")),
            Err(_) => Err(format!("the stream did not stop within {STOP_TIME_MAX:?}")),
        }
    }

    /// Drops the stream wherever it is.
    pub async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

async fn keep_running(
    connector: Arc<dyn Connector>,
    intake: Arc<RecordingIntake>,
    stop: CancellationToken,
) -> connector_api::Result<()> {
    let Some(source) = connector.stream_source() else {
        return Ok(());
    };
    let mut runs = 0;
    loop {
        let resume = intake.cursor().as_ref().map(through_json).transpose();
        let resume = resume.map_err(connector_api::Error::malformed)?;
        let result = source
            .run(resume, Arc::clone(&intake) as _, stop.clone())
            .await;
        runs += 1;
        match result {
            _ if stop.is_cancelled() => return result,
            Err(error) if matches!(error.kind, ErrorKind::Auth | ErrorKind::Config) => {
                return Err(error);
            }
            result if runs == RUNS_MAX => return result,
            _ => tokio::time::sleep(RESTART_PAUSE).await,
        }
    }
}
