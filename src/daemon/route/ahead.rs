//! Reads and prepares the next records while those before them are committed: preparing is half of
//! the work on a message and needs no transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::bus::{Bus, Carried, Content, Envelope, Record};
use crate::daemon::elsewhere::Elsewhere;
use crate::live::Live;
use crate::router::{Policy, Prepared};
use crate::store::Ownership;

/// Records decided in one transaction at most.
const BATCH_RECORDS_MAX: usize = 500;
/// Batches that wait while another is committed. With the one being prepared, and the one being
/// committed, three are in memory.
const BATCHES_WAITING: usize = 1;
/// Records prepared before other tasks get their turn.
const TURN_RECORDS: usize = 50;

/// What comes next in the log.
pub enum Next {
    /// Records to decide together.
    Batch(Vec<Prepared>),
    /// A record that nobody can decide.
    Undecidable {
        record: i64,
        reason: String,
        carried: Option<Arc<Carried>>,
    },
    /// Nothing can be read for now; reading has ended.
    Trouble(String),
}

/// What reading ahead needs.
#[derive(Clone)]
pub struct Ahead {
    pub bus: Arc<dyn Bus>,
    pub policy: Live<Policy>,
    pub elsewhere: Arc<Elsewhere>,
    /// [`Prepared::new`]; tests put one in its place that fails.
    pub prepare: fn(i64, Arc<Envelope>) -> Prepared,
}

impl Ahead {
    /// Reads on from the owner's position, until the receiver is dropped.
    pub fn start(&self, ownership: &Ownership) -> mpsc::Receiver<Next> {
        let (found, receiver) = mpsc::channel(BATCHES_WAITING);
        let (ahead, ownership) = (self.clone(), *ownership);
        tokio::spawn(async move {
            tokio::select! {
                () = ahead.read_on(ownership, &found) => {}
                () = found.closed() => {}
            }
        });
        receiver
    }

    /// Returns when nobody listens any more, or after trouble.
    async fn read_on(&self, ownership: Ownership, found: &mpsc::Sender<Next>) {
        let mut position = ownership.position;
        loop {
            let read = self
                .bus
                .read(ownership.partition, position, BATCH_RECORDS_MAX)
                .await;
            let records = match read {
                Ok(records) => records,
                Err(error) => {
                    drop(found.send(Next::Trouble(error.to_string())).await);
                    return;
                }
            };
            let mut rest = records.as_slice();
            while !rest.is_empty() {
                let (next, taken) = self.next(rest).await;
                let ends = matches!(next, Next::Trouble(_));
                if found.send(next).await.is_err() || ends {
                    return;
                }
                rest = rest.split_at(taken).1;
            }
            position = records.last().map_or(position, |last| last.offset);
        }
    }

    /// The readable start of `records`, or what is wrong with the first of them; and how many
    /// records that takes.
    async fn next(&self, records: &[Record]) -> (Next, usize) {
        let mut batch = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            if at % TURN_RECORDS == TURN_RECORDS - 1 {
                tokio::task::yield_now().await;
            }
            match self.prepared(record) {
                Ok(prepared) => batch.push(prepared),
                Err(wrong) if batch.is_empty() => {
                    return (self.waits(record).await.unwrap_or(wrong), 1);
                }
                Err(_) => break,
            }
        }
        let taken = batch.len();
        (Next::Batch(batch), taken)
    }

    /// Another process may have the channel that this one does not know.
    async fn waits(&self, record: &Record) -> Option<Next> {
        let Content::Envelope(envelope) = &record.content else {
            return None;
        };
        let channel = &envelope.channel;
        if self.policy.now().channels.contains_key(channel) {
            return None;
        }
        self.elsewhere.waits_for(channel).await.map(Next::Trouble)
    }

    fn prepared(&self, record: &Record) -> Result<Prepared, Next> {
        let undecidable = |reason: String| Next::Undecidable {
            record: record.offset,
            reason,
            carried: record.carried.clone(),
        };
        let envelope = match &record.content {
            Content::Envelope(envelope) => envelope.clone(),
            Content::Unreadable { reason } => return Err(undecidable(reason.clone())),
            Content::Newer { major } => {
                return Err(Next::Trouble(format!(
                    "a record of major version {major} needs a newer version of Switchboard"
                )));
            }
        };
        if !self.policy.now().channels.contains_key(&envelope.channel) {
            let channel = &envelope.channel;
            return Err(undecidable(format!(
                "channel {channel} is not configured (any more)"
            )));
        }
        // Triage reads a stranger's words: a panic in it is that record's failure alone.
        let prepared = catch_unwind(AssertUnwindSafe(|| (self.prepare)(record.offset, envelope)));
        let prepared = prepared.map_err(|_| undecidable("preparing it panicked".to_owned()))?;
        Ok(Prepared {
            carried: record.carried.clone(),
            ..prepared
        })
    }
}
