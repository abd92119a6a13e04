//! The store's trait on the embedded store: each call is one job of the writer or one query of a
//! reader. What they do is in the modules they name.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use connector_api::{ChannelId, Cursor, QueueId};

use crate::bus::Carried;
use crate::dispatch::Actor;
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::router::Policy;
use crate::router::facts::Conversation;
use crate::store::attachments::{DueFetch, FetchOutcome};
use crate::store::privacy::Erases;
use crate::store::retention::Forgets;
use crate::store::search::Search;
use crate::store::sql::params;
use crate::store::{
    ConversationFilter, Counts, Declared, OutboxFilter, Ownership, QueueDepth, Result, Retention,
    Rings, RouteCommit, Routed, Senders, SettleAs, Settlement, Settling, Store, StoreError,
    StoredAttachment, StoredContact, StoredDeadLetter, StoredMessage, Taken, Token, UnsentReply,
};

use super::migrations::SCHEMA_VERSION;
use super::names::Names;
use super::{Engine, RowStore, Tx, adopt, arrived, attachments, facts, operating, outbox, reading};

mod desk;
mod macros;
mod privacy;
mod surgery;

#[async_trait]
impl<E: Engine> Store for RowStore<E>
where
    Self: Search + Forgets + Erases,
{
    async fn own(&self, partition: u32) -> Result<Ownership> {
        self.engine.write_beside(0, move |tx| {
                tx.conn
                    .prepare(
                        "INSERT INTO position (partition, position, epoch) VALUES (?1, 0, 1)
                         ON CONFLICT (partition) DO UPDATE SET epoch = position.epoch + 1 RETURNING position, epoch",
                    )?
                    .query_row([partition], |row| {
                        Ok(Ownership { partition, position: row.get(0)?, epoch: row.get(1)? })
                    })
                    .map_err(StoreError::from)
            })
            .await
    }

    async fn route(&self, commit: RouteCommit) -> Result<Routed> {
        let messages = commit.batch.len();
        let last = commit.batch.last();
        let position = last.map_or(commit.ownership.position, |last| last.offset);
        let apart = bug!("position-in-its-own-transaction");
        if apart {
            let own = move |tx: &mut Tx<'_>| move_position(tx, &commit.ownership, position);
            self.engine.write_beside(0, own).await?;
        }
        self.engine
            .write_beside(messages, move |tx| {
                if !apart {
                    move_position(tx, &commit.ownership, position)?;
                }
                let effects = operating::decide(tx, &commit.batch, &commit.policy, commit.now)?;
                Ok(Routed {
                    position,
                    queues: operating::rings_of(tx, &effects)?.queues,
                    sends: !effects.acknowledgements.is_empty(),
                    fetches: !effects.fetches.is_empty(),
                    verdicts: effects.verdicts,
                })
            })
            .await
    }

    async fn count_attempt(&self, record: i64) -> Result<u32> {
        self.engine
            .write_beside(0, move |tx| operating::count_attempt(tx, record))
            .await
    }

    async fn bury(
        &self,
        ownership: Ownership,
        record: i64,
        reason: String,
        attempts: u32,
        carried: Option<Arc<Carried>>,
        now: i64,
    ) -> Result<()> {
        self.engine
            .write_beside(1, move |tx| {
                move_position(tx, &ownership, record)?;
                if let Some(carried) = &carried {
                    arrived::keep(tx.conn, record, carried)?;
                }
                operating::bury(tx, record, &reason, attempts, now)?;
                match &carried {
                    Some(carried) => arrived::note_headers(tx.conn, record, carried),
                    None => Ok(()),
                }
            })
            .await
    }

    async fn cursor(&self, channel: &ChannelId) -> Result<Option<Cursor>> {
        let number = self.id(channel.as_str());
        self.engine
            .read(move |conn, _| operating::cursor(conn, number))
            .await
    }

    async fn save_cursor(&self, channel: &ChannelId, cursor: Cursor) -> Result<()> {
        let channel = channel.clone();
        self.engine
            .write_beside(0, move |tx| operating::save_cursor(tx, &channel, &cursor))
            .await
    }

    async fn queues(&self, actor: Actor) -> Result<Vec<QueueDepth>> {
        let queues = self.queues.now();
        let visible: Vec<QueueId> = queues
            .iter()
            .filter(|queue| actor.may_use_queue(queue))
            .cloned()
            .collect();
        self.engine
            .read(move |conn, names| reading::queue_depths(conn, names, &visible, &actor.brands))
            .await
    }

    async fn conversations(
        &self,
        actor: Actor,
        filter: ConversationFilter,
    ) -> Result<Vec<Conversation>> {
        self.engine
            .read(move |conn, names| reading::conversations(conn, names, &actor, &filter))
            .await
    }

    async fn conversation(&self, actor: Actor, id: ConversationId) -> Result<Option<Conversation>> {
        self.engine
            .read(move |conn, names| reading::conversation(conn, names, &actor, id))
            .await
    }

    async fn messages(
        &self,
        actor: Actor,
        conversation: ConversationId,
        from: Option<MessageId>,
        limit: u32,
    ) -> Result<Option<Vec<StoredMessage>>> {
        self.engine
            .read(move |conn, names| {
                reading::messages(conn, names, &actor, conversation, from, limit)
            })
            .await
    }

    async fn message(&self, actor: Actor, id: MessageId) -> Result<Option<StoredMessage>> {
        self.engine
            .read(move |conn, names| reading::message(conn, names, &actor, id))
            .await
    }

    async fn contact(&self, actor: Actor, id: ContactId) -> Result<Option<StoredContact>> {
        self.engine
            .read(move |conn, names| reading::contact(conn, names, &actor, id))
            .await
    }

    async fn set_senders(&self, senders: Senders, elsewhere: Declared, now: i64) -> Result<()> {
        let known = Arc::new(senders);
        self.set_known_senders(known.clone());
        self.engine
            .write(0, move |tx| {
                let can_send = |name: &str| can_send(Some(&known), name) || elsewhere.has(name);
                outbox::held::refuse_unsendable(tx, can_send, now).map(drop)
            })
            .await
    }

    async fn recover_outbox(&self, idempotent: Vec<ChannelId>, now: i64) -> Result<u64> {
        self.engine
            .write(0, move |tx| {
                Ok(outbox::held::recover(tx, None, &idempotent, now)?.0)
            })
            .await
    }

    async fn recover_lane(&self, channel: &ChannelId, idempotent: bool, now: i64) -> Result<Rings> {
        let channel = channel.clone();
        self.engine
            .write(0, move |tx| {
                let own = std::slice::from_ref(&channel);
                let sent_once = if idempotent { own } else { &[] };
                Ok(outbox::held::recover(tx, Some(&channel), sent_once, now)?.1)
            })
            .await
    }

    async fn lease(&self, channel: &ChannelId, limit: u32, now: i64) -> Result<Taken> {
        let channel = channel.clone();
        let senders = self.known_senders();
        let work = move |tx: &mut Tx<'_>| {
            let can = senders.as_ref().and_then(|senders| senders.get(&channel));
            let can = can.map(|sending| &sending.can);
            outbox::lease(tx, &channel, can, limit, now)
        };
        let leaves = |taken: &Taken| !taken.leased.is_empty();
        self.engine.write_leaving(work, leaves).await
    }

    async fn next_due(&self, channel: &ChannelId, now: i64) -> Result<Option<i64>> {
        let number = self.id(channel.as_str());
        self.engine
            .read(move |conn, _| outbox::next_due(conn, number, now))
            .await
    }

    async fn settle(&self, id: MessageId, settlement: Settlement, now: i64) -> Result<Rings> {
        self.engine
            .write_beside(1, move |tx| outbox::settle(tx, id, &settlement, now))
            .await
    }

    async fn settle_attempt(
        &self,
        id: MessageId,
        attempt: u32,
        settlement: Settlement,
        now: i64,
    ) -> Result<Rings> {
        self.engine
            .write_beside(1, move |tx| {
                outbox::settle_attempt(tx, id, attempt, &settlement, now)
            })
            .await
    }

    async fn settle_held(&self, settling: Settling) -> Result<(StoredMessage, Rings)> {
        let senders = self.known_senders();
        self.engine
            .write_beside(1, move |tx| {
                let can_send = |name: &str| can_send(senders.as_deref(), name);
                let rings = outbox::held::settle_held(tx, &settling, can_send)?;
                Ok((written(tx, settling.message)?.0, rings))
            })
            .await
    }

    async fn settle_restored(
        &self,
        outcome: SettleAs,
        channel: Option<ChannelId>,
        limit: u32,
        now: i64,
    ) -> Result<(u64, Rings)> {
        let senders = self.known_senders();
        self.engine
            .write(1, move |tx| {
                let can_send = |name: &str| can_send(senders.as_deref(), name);
                let channel = channel.as_ref();
                outbox::held::settle_restored(tx, outcome, channel, limit, can_send, now)
            })
            .await
    }

    async fn hold_unsent(&self, sending: bool, now: i64) -> Result<(u64, Rings)> {
        self.engine
            .write(1, move |tx| {
                // Nothing runs here: the whole directory was set back, its events with it.
                if sending {
                    super::events::resume(tx, now)?;
                }
                outbox::held::hold(tx, sending, now)
            })
            .await
    }

    async fn unsent(&self, filter: OutboxFilter) -> Result<Vec<UnsentReply>> {
        self.engine
            .read(move |conn, names| outbox::held::list(conn, names, &filter))
            .await
    }

    async fn lease_fetches(&self, limit: u32, now: i64) -> Result<Vec<DueFetch>> {
        self.engine
            .write_beside(1, move |tx| attachments::lease(tx, limit, now))
            .await
    }

    async fn next_fetch(&self) -> Result<Option<i64>> {
        self.engine.read(|conn, _| attachments::next(conn)).await
    }

    async fn settle_fetch(
        &self,
        message: MessageId,
        place: usize,
        outcome: FetchOutcome,
        now: i64,
    ) -> Result<()> {
        // It holds its file until after the commit.
        let outcome = Arc::new(outcome);
        let own = outcome.clone();
        let settled = self.engine.write_beside(1, move |tx| {
            attachments::settle(tx, message, place, &own, now)
        });
        let settled = settled.await;
        drop(outcome);
        settled
    }

    async fn written_file(
        &self,
        message: MessageId,
        sha256: [u8; 32],
    ) -> Result<Option<Option<Bytes>>> {
        self.engine
            .read(move |conn, _| attachments::written(conn, message, &sha256))
            .await
    }

    async fn attachment(
        &self,
        actor: Actor,
        message: MessageId,
        place: usize,
    ) -> Result<Option<StoredAttachment>> {
        self.engine
            .read(move |conn, names| attachments::read(conn, names, &actor, message, place))
            .await
    }

    async fn unnamed_files(&self, files: Vec<[u8; 32]>) -> Result<Vec<[u8; 32]>> {
        self.engine
            .read(move |conn, _| attachments::unnamed(conn, &files))
            .await
    }

    async fn create_token(&self, hash: Vec<u8>, token: Token) -> Result<Token> {
        self.engine
            .write_beside(0, move |tx| {
                operating::create_token(tx, &hash, token.clone())
            })
            .await
    }

    async fn tokens(&self) -> Result<Vec<Token>> {
        self.engine.read(|conn, _| operating::tokens(conn)).await
    }

    async fn token_by_hash(&self, hash: Vec<u8>) -> Result<Option<Token>> {
        self.engine
            .read(move |conn, _| operating::token_by_hash(conn, &hash))
            .await
    }

    async fn revoke_token(&self, id: i64, now: i64) -> Result<bool> {
        self.engine
            .write_beside(0, move |tx| operating::revoke_token(tx, id, now))
            .await
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<StoredDeadLetter>> {
        self.engine
            .read(move |conn, _| operating::dead_letters(conn, limit))
            .await
    }

    async fn dead_letter(&self, record: i64) -> Result<Option<StoredDeadLetter>> {
        self.engine
            .read(move |conn, _| operating::dead_letter(conn, record))
            .await
    }

    async fn redrive(&self, record: i64, policy: Arc<Policy>, now: i64) -> Result<Option<Rings>> {
        self.engine
            .write_beside(1, move |tx| operating::redrive(tx, record, &policy, now))
            .await
    }

    async fn counts(&self) -> Result<Counts> {
        let queues = self.queues.now();
        self.engine
            .read(move |conn, names| reading::counts(conn, names, &queues))
            .await
    }

    async fn declare(&self, names: Vec<String>, queues: Vec<QueueId>) -> Result<()> {
        let all: Vec<String> = names
            .into_iter()
            .chain(queues.iter().map(|queue| queue.as_str().to_owned()))
            .collect();
        // Looked up only once they are durable: no row may have a number that a crash gives to
        // another name.
        let added = self
            .engine
            .write(0, move |tx| Ok(Names::add(tx.conn, &all)?));
        added.await?;
        self.engine
            .read(|conn, known| Ok(known.load(conn)?))
            .await?;
        self.queues.set(Arc::new(queues));
        Ok(())
    }

    async fn adopt_stranded(&self, elsewhere: Declared, now: i64) -> Result<Rings> {
        let queues = self.queues.now();
        let known = self.known_senders();
        self.engine
            .write(0, move |tx| {
                let mut rings = match &known {
                    None => Rings::default(),
                    Some(known) => {
                        let can_send =
                            |name: &str| can_send(Some(known), name) || elsewhere.has(name);
                        outbox::held::refuse_unsendable(tx, can_send, now)?
                    }
                };
                rings
                    .queues
                    .extend(adopt::adopt(tx, &queues, &elsewhere.queues, now)?);
                Ok(rings)
            })
            .await
    }

    async fn sweep(&self, keep: Retention, now: i64) -> Result<bool> {
        self.engine
            .write(0, move |tx| operating::sweep(tx, &keep, now))
            .await
    }

    async fn agree(&self, name: &'static str, number: i64) -> Result<i64> {
        self.engine
            .write(0, move |tx| operating::agree(tx, name, number))
            .await
    }

    fn installation_key(&self) -> &[u8] {
        self.engine.key()
    }

    fn schema_version(&self) -> i64 {
        SCHEMA_VERSION
    }
}

/// Whether a channel can send, as far as that is known.
fn can_send(senders: Option<&Senders>, name: &str) -> bool {
    senders.is_none_or(|senders| senders.keys().any(|known| known.as_str() == name))
}

/// Moves the position, if this router still owns the partition and nobody moved it.
fn move_position(tx: &Tx<'_>, ownership: &Ownership, position: i64) -> Result<()> {
    let moved = tx
        .conn
        .prepare("UPDATE position SET position = ?1 WHERE partition = ?2 AND position = ?3 AND epoch = ?4")?
        .execute(params![position, ownership.partition, ownership.position, ownership.epoch])?;
    if moved == 1 || bug!("position-not-checked") {
        return Ok(());
    }
    Err(StoreError::StaleEpoch(format!(
        "partition {} is not at position {} of epoch {} any more",
        ownership.partition, ownership.position, ownership.epoch
    )))
}

pub(super) fn written(tx: &Tx<'_>, id: MessageId) -> Result<(StoredMessage, Conversation)> {
    let names = &tx.memory.names;
    let lost = || StoreError::Poisoned("a message just written is not there".to_owned());
    let message = reading::message_row(tx.conn, names, id)?.ok_or_else(lost)?;
    let conversation =
        facts::conversation(tx.conn, names, message.conversation)?.ok_or_else(lost)?;
    Ok((message, conversation))
}
