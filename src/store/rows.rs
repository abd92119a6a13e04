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
mod gate;
mod implementation;
mod imports;
pub(super) mod leases;
mod locks;
mod macros;
pub mod memory;
pub mod migrations;
pub mod names;
pub mod operating;
pub mod outbox;
pub mod partitions;
pub mod permission;
pub mod privacy;
pub(super) mod processes;
pub mod reading;
mod reconcile;
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

/// A database as the store has it. Work may be run more than once: what it did before was undone.
pub trait Engine: Send + Sync + 'static {
    /// Runs `work` in a transaction, which is on disk on return; an error or a panic undoes it. Nobody else
    /// writes meanwhile: for what is rare, or touches much. `messages` says how much of a commit it is.
    fn write<T: Send + 'static>(
        &self,
        messages: usize,
        work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// The same, while others may write. `work` locks what it is about to decide on before it reads it
    /// (rows/locks.rs), in the one order.
    fn write_beside<T: Send + 'static>(
        &self,
        messages: usize,
        work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// The same, for what makes something leave, which `leaves` tells of its outcome: a backup of
    /// before does not know of it.
    fn write_leaving<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
        leaves: impl Fn(&T) -> bool + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Runs a short query.
    fn read<T: Send + 'static>(
        &self,
        query: impl FnMut(Conn<'_>, &Names) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Returns once every event that was committed by now has its number.
    fn number_events(&self) -> impl Future<Output = Result<()>> + Send;

    /// How far the event log and the tokens are.
    fn moved(&self) -> watch::Receiver<Moved>;

    fn names(&self) -> &Arc<Names>;

    /// Random bytes of this installation.
    fn key(&self) -> &[u8];
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
