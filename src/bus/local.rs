//! The embedded bus: a log in the store's database. Appending is a job of the store's writer, so
//! one commit carries the intake of one batch and the decisions of another; the router reads from
//! memory, and from the database only what memory does not hold (after a start, or when far behind).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::bus::{
    Bus, BusError, BusState, Content, Mark, NewBlob, NewRecord, Record, RecordKey, decode,
};
use crate::ids::IdSource;
use crate::store::StoreError;
use crate::store::alerts::Watched as _;
use crate::store::rows::{Tx, arrived};
use crate::store::sql::params;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::writer::Fate;

/// Undecided records above which intake refuses: a router that cannot keep up must not hide
/// behind a growing log. About a minute of work.
pub const LAG_RECORDS_MAX: i64 = 200_000;
/// Bytes of bodies read from the log at once, give or take one body.
const READ_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Records and text bytes kept in memory for the router.
const TAIL_RECORDS_MAX: usize = 4_096;
const TAIL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes that may wait for the writer; above this intake refuses.
pub const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The log of one data directory.
pub struct LocalBus {
    store: Arc<SqliteStore>,
    /// Free room among the bytes that wait for the writer.
    room: Arc<Semaphore>,
    tail: Arc<Tail>,
    assigned: watch::Sender<Vec<u32>>,
    state: watch::Sender<BusState>,
}

/// The one partition of a log.
pub const PARTITION: u32 = 0;

/// The newest records, in memory.
#[derive(Default)]
struct Tail {
    records: Mutex<Held>,
    /// Records appended and not yet read past.
    lag: AtomicI64,
    /// The newest record, and the last one decided.
    newest: AtomicI64,
    position: AtomicI64,
    arrived: Notify,
    decided: Notify,
}

#[derive(Default)]
struct Held {
    records: VecDeque<(Record, usize)>,
    bytes: usize,
    /// Every record above this one is in `records`.
    floor: i64,
}

impl LocalBus {
    /// Continues the log: what is in the database is read from there.
    pub async fn open(store: Arc<SqliteStore>) -> Result<Self, StoreError> {
        let (newest, undecided, position) = store
            .read(|conn, _| {
                let newest = conn.query_row("SELECT coalesce(max(record), 0) FROM log", [], |row| row.get(0))?;
                let undecided = conn.query_row(
                    "SELECT count(*) FROM log WHERE record > (SELECT coalesce(min(position), 0) FROM position)",
                    [],
                    |row| row.get(0),
                )?;
                let position: i64 =
                    conn.query_row("SELECT coalesce(min(position), 0) FROM position", [], |row| row.get(0))?;
                Ok((newest, undecided, position))
            })
            .await?;
        let tail = Tail::default();
        tail.hold().floor = newest;
        tail.lag.store(undecided, Ordering::Release);
        tail.newest.store(newest, Ordering::Release);
        tail.position.store(position, Ordering::Release);
        Ok(Self {
            store,
            room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            tail: Arc::new(tail),
            assigned: watch::Sender::new(vec![PARTITION]),
            // It is as well as the store that it is in.
            state: watch::Sender::new(BusState::Ready),
        })
    }

    /// Room left for bytes that wait for the writer.
    pub fn free_bytes(&self) -> usize {
        self.room.available_permits()
    }

    fn refuse_overload(&self) -> Result<(), BusError> {
        let overloaded = |reason: &str| {
            Err(BusError::Overloaded {
                reason: reason.to_owned(),
            })
        };
        if self.lag() > LAG_RECORDS_MAX {
            return overloaded("the router is too far behind");
        }
        if self.store.writer().room() == 0 {
            return overloaded("too much is waiting to be written");
        }
        if self.store.wal_full() {
            return overloaded("the write-ahead log is at its cap");
        }
        Ok(())
    }
}

impl LocalBus {
    /// Room for the bytes of some records among those that wait for the writer.
    fn place(&self, records: &[NewRecord]) -> Result<OwnedSemaphorePermit, BusError> {
        let inline = |blob: &NewBlob| blob.inline.as_ref().map_or(0, |bytes| bytes.len());
        let bytes = |record: &NewRecord| {
            let beside = record.raw.iter().chain(&record.blobs);
            record.body.len() + beside.map(inline).sum::<usize>()
        };
        let bytes = records.iter().map(bytes).sum::<usize>();
        // A batch larger than all of it waits alone.
        let bytes = u32::try_from(bytes.min(WAITING_BYTES_MAX)).unwrap_or(u32::MAX);
        let free = self.room.clone().try_acquire_many_owned(bytes);
        free.map_err(|_| BusError::Overloaded {
            reason: "too many bytes are waiting to be written".to_owned(),
        })
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<i64>, BusError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.refuse_overload()?;
        let place = self.place(&records)?;
        let tail = self.tail.clone();
        let appended = self.store.writer().run_then(
            records.len(),
            Fate::Shared,
            move |tx| {
                // Goes with the work: a caller that leaves does not make room.
                drop(place);
                insert(tx, &records).map(|first| (first, records))
            },
            move |(first, records)| tail.push(*first, records),
        );
        match appended.await {
            Ok((first, records)) => Ok((first..).take(records.len()).collect()),
            Err(error) => Err(BusError::Unavailable(error.to_string())),
        }
    }

    async fn probe(&self, now: i64) -> Result<(), BusError> {
        match self.store.probe(now).await {
            Ok(()) | Err(StoreError::Closed) => Ok(()),
            Err(error) => Err(BusError::Unavailable(error.to_string())),
        }
    }

    async fn append_bytes(&self, body: Vec<u8>, arrived_at: i64) -> Result<(), BusError> {
        let tail = self.tail.clone();
        let appended = self.store.writer().run_then(
            1,
            Fate::Shared,
            move |tx| {
                let id = tx.memory.next();
                insert_body(tx, id, arrived_at, RecordKey(0), &body)?;
                Ok((id, body))
            },
            move |(id, body)| tail.push_one(*id, decode(body), body.len()),
        );
        appended
            .await
            .map(|_| ())
            .map_err(|error| BusError::Unavailable(error.to_string()))
    }

    fn assigned(&self) -> watch::Receiver<Vec<u32>> {
        self.assigned.subscribe()
    }

    async fn read(
        &self,
        _partition: u32,
        position: i64,
        records_max: usize,
    ) -> Result<Vec<Record>, BusError> {
        loop {
            let arrived = self.tail.arrived.notified();
            let records = match self.tail.after(position, records_max) {
                Some(records) => records,
                None => self.read_log(position, records_max).await?,
            };
            if !records.is_empty() {
                return Ok(records);
            }
            arrived.await;
        }
    }

    fn decided(&self, _partition: u32, position: i64, records: usize) {
        self.tail.position.fetch_max(position, Ordering::AcqRel);
        self.tail.lag.fetch_sub(records as i64, Ordering::AcqRel);
        self.tail.drop_through(position);
        self.tail.decided.notify_waiters();
    }

    fn lag(&self) -> i64 {
        self.tail.lag.load(Ordering::Acquire)
    }

    async fn mark(&self) -> Result<Mark, BusError> {
        let newest = self.tail.newest.load(Ordering::Acquire);
        Ok(Mark([(PARTITION, newest)].into()))
    }

    fn partition_of(&self, _record: i64) -> u32 {
        PARTITION
    }

    async fn decided_so_far(&self) -> Result<(), BusError> {
        let newest = self.tail.newest.load(Ordering::Acquire);
        let decided = |tail: &Tail| tail.position.load(Ordering::Acquire) >= newest;
        self.tail.until(decided).await;
        Ok(())
    }

    async fn caught_up(&self) -> Result<(), BusError> {
        let decided = |tail: &Tail| tail.lag.load(Ordering::Acquire) <= 0;
        self.tail.until(decided).await;
        Ok(())
    }

    fn names_files_for(&self) -> Duration {
        // Its rows name them, in the same commit.
        Duration::ZERO
    }

    async fn leave(&self) {
        self.assigned.send_replace(Vec::new());
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }
}

impl LocalBus {
    async fn read_log(&self, position: i64, records_max: usize) -> Result<Vec<Record>, BusError> {
        let read = self.store.read(move |conn, _| {
            let mut statement = conn.prepare_cached(
                "SELECT log.record, body.content FROM log LEFT JOIN body ON body.id = log.record
                 WHERE log.record > ?1 ORDER BY log.record LIMIT ?2",
            )?;
            let mut rows = statement.query((position, records_max as i64))?;
            let (mut records, mut bytes) = (Vec::new(), 0);
            // A backlog of large mails is read in small pieces.
            while bytes < READ_BYTES_MAX
                && let Some(row) = rows.next()?
            {
                let body: Option<Vec<u8>> = row.get(1)?;
                bytes += body.as_ref().map_or(0, Vec::len);
                let missing = || Content::Unreadable {
                    reason: "its body is missing".to_owned(),
                };
                records.push(Record {
                    carried: None,
                    offset: row.get(0)?,
                    content: body.map_or_else(missing, |body| decode(&body)),
                });
            }
            Ok(records)
        });
        read.await
            .map_err(|error| BusError::Unavailable(error.to_string()))
    }
}

/// Writes the records and gives the first one's number.
fn insert(tx: &mut Tx<'_>, records: &[NewRecord]) -> Result<i64, StoreError> {
    let mut first = 0;
    for record in records {
        let id = tx.memory.next();
        first = if first == 0 { id } else { first };
        let arrived_at = record.envelope.arrived_at;
        insert_body(tx, id, arrived_at, record.key, &record.body)?;
        arrived::insert_beside(tx.conn, id, record.raw.as_ref(), &record.blobs, arrived_at)?;
    }
    Ok(first)
}

fn insert_body(
    tx: &Tx<'_>,
    id: i64,
    arrived_at: i64,
    key: RecordKey,
    body: &[u8],
) -> Result<(), StoreError> {
    tx.conn
        .prepare("INSERT INTO log (record, arrived_at, record_key) VALUES (?1, ?2, ?3)")?
        .execute(params![id, arrived_at, key.0 as i64])?;
    arrived::insert_body(tx.conn, id, body)
}

impl Tail {
    fn hold(&self) -> std::sync::MutexGuard<'_, Held> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once it holds, looking again whenever something was decided.
    async fn until(&self, holds: impl Fn(&Tail) -> bool) {
        loop {
            let decided = self.decided.notified();
            let mut decided = std::pin::pin!(decided);
            decided.as_mut().enable();
            if holds(self) {
                return;
            }
            decided.await;
        }
    }

    /// Called on the writer's thread, in commit order. Ids within one job are consecutive.
    fn push(&self, first: i64, records: &[NewRecord]) {
        for (offset, record) in (first..).zip(records) {
            self.push_one(
                offset,
                Content::Envelope(record.envelope.clone()),
                record.body.len(),
            );
        }
    }

    fn push_one(&self, offset: i64, content: Content, bytes: usize) {
        let mut held = self.hold();
        held.bytes += bytes;
        let record = Record {
            offset,
            content,
            carried: None,
        };
        held.records.push_back((record, bytes));
        while held.records.len() > TAIL_RECORDS_MAX || held.bytes > TAIL_BYTES_MAX {
            held.drop_oldest();
        }
        self.lag.fetch_add(1, Ordering::AcqRel);
        self.newest.fetch_max(offset, Ordering::AcqRel);
        drop(held);
        self.arrived.notify_one();
    }

    /// The records after `position`, or `None` when memory does not hold all of them.
    fn after(&self, position: i64, records_max: usize) -> Option<Vec<Record>> {
        let held = self.hold();
        if held.floor > position {
            return None;
        }
        let start = held
            .records
            .partition_point(|(record, _)| record.offset <= position);
        Some(
            held.records
                .range(start..)
                .take(records_max)
                .map(|(record, _)| record.clone())
                .collect(),
        )
    }

    fn drop_through(&self, position: i64) {
        let mut held = self.hold();
        while held
            .records
            .front()
            .is_some_and(|(record, _)| record.offset <= position)
        {
            held.drop_oldest();
        }
    }
}

impl Held {
    fn drop_oldest(&mut self) {
        if let Some((record, bytes)) = self.records.pop_front() {
            self.bytes -= bytes;
            self.floor = self.floor.max(record.offset);
        }
    }
}
