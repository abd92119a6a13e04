//! What every store does with its rows. It is written once, for whichever [`Engine`] runs it: an engine
//! brings transactions, and what its database does in a way of its own.

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use connector_api::QueueId;
use tokio::sync::watch;

use crate::live::Live;
use crate::store::events::Moved;
use crate::store::sql::Conn;
use crate::store::{Result, Senders};

pub mod adopt;
mod alerts;
pub mod arrived;
mod attachments;
mod credentials;
mod desk;
mod drafts;
pub mod effects;
pub mod events;
pub mod facts;
mod implementation;
mod imports;
mod leases;
mod macros;
pub mod memory;
pub mod names;
pub mod operating;
pub mod outbox;
mod partitions;
pub mod permission;
mod processes;
pub mod reading;
mod relays;
pub mod retention;
pub mod search;
pub mod seen;
mod surgery;
pub mod uploads;

use memory::Memory;
use names::Names;

/// The tables of every store.
pub const SCHEMA: &str = include_str!("rows/schema.sql");

/// What a job sees: the open transaction, and what its connection keeps in memory.
pub struct Tx<'a> {
    pub conn: Conn<'a>,
    pub memory: &'a mut Memory,
}

impl Tx<'_> {
    /// The number that the next event written here will have.
    pub fn next_event(&self) -> i64 {
        self.memory.next_seq + 1
    }

    /// The number of the last event written here.
    pub fn last_event(&self) -> i64 {
        self.memory.next_seq
    }
}

/// A database as the store has it. Jobs are run as if each were alone.
pub trait Engine: Send + Sync + 'static {
    /// Runs `work` in a transaction, which is on disk on return; an error or a panic undoes it.
    /// `messages` says how much of a commit it is.
    fn write<T: Send + 'static>(
        &self,
        messages: usize,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// The same, for what makes something leave, which `leaves` tells of its outcome: a backup of
    /// before does not know of it.
    fn write_leaving<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        leaves: impl Fn(&T) -> bool + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Runs a short query.
    fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(Conn<'_>, &Names) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// How far the event log and the tokens are.
    fn moved(&self) -> watch::Receiver<Moved>;

    fn names(&self) -> &Arc<Names>;

    /// Random bytes of this installation.
    fn key(&self) -> &[u8];

    /// The version of the schema that this build writes.
    const SCHEMA_VERSION: i64;
}

/// The store on an engine.
pub struct RowStore<E> {
    pub(super) engine: E,
    pub(super) queues: Live<Vec<QueueId>>,
    /// Channels that can send, with their limits, once the daemon has built them.
    senders: RwLock<Option<Arc<Senders>>>,
}

impl<E: Engine> RowStore<E> {
    pub(super) fn new(engine: E, queues: Vec<QueueId>) -> Self {
        Self {
            engine,
            queues: Live::new(queues),
            senders: RwLock::default(),
        }
    }

    /// The channels that can send, where that is known.
    fn known_senders(&self) -> Option<Arc<Senders>> {
        let known = self.senders.read();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_known_senders(&self, senders: Arc<Senders>) {
        let mut known = self.senders.write().unwrap_or_else(PoisonError::into_inner);
        *known = Some(senders);
    }

    fn id(&self, name: &str) -> i64 {
        self.engine.names().id(name)
    }
}
