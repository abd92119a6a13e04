//! What is kept of one person: each call is one job of the writer or one query of a reader.

use async_trait::async_trait;

use crate::dispatch::Actor;
use crate::ids::{ContactId, ConversationId, MessageId};
use crate::router::facts::Conversation;
use crate::store::macros::StoredDraft;
use crate::store::privacy::{
    Asking, Copies, Erasure, Holding, Privacy, Spoken, Stage, WholeContact,
};
use crate::store::rows::privacy::{erasing, holds, whole};
use crate::store::rows::{Engine, RowStore};
use crate::store::{Result, StoredContact};

#[async_trait]
impl<E: Engine> Privacy for RowStore<E> {
    async fn hold_contact(&self, holding: Holding) -> Result<StoredContact> {
        self.engine
            .write(0, move |tx| holds::hold(tx, &holding))
            .await
    }

    async fn whole_contact(&self, actor: Actor, id: ContactId) -> Result<WholeContact> {
        self.engine
            .read(move |conn, names| whole::contact(conn, names, &actor, id))
            .await
    }

    async fn took_part(
        &self,
        contact: ContactId,
        after: Option<ConversationId>,
        limit: u32,
    ) -> Result<Vec<Conversation>> {
        self.engine
            .read(move |conn, names| whole::took_part(conn, names, contact, after, limit))
            .await
    }

    async fn spoken(
        &self,
        conversation: ConversationId,
        from: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<Spoken>> {
        self.engine
            .read(move |conn, names| whole::spoken(conn, names, conversation, from, limit))
            .await
    }

    async fn drafts_in(&self, conversation: ConversationId) -> Result<Vec<StoredDraft>> {
        self.engine
            .read(move |conn, _| whole::drafts(conn, conversation))
            .await
    }

    async fn ask_erasure(&self, asking: Asking) -> Result<Erasure> {
        self.engine
            .write(1, move |tx| erasing::ask(tx, &asking))
            .await
    }

    async fn erasure(&self, id: i64) -> Result<Option<Erasure>> {
        self.engine
            .read(move |conn, names| erasing::one(conn, names, id))
            .await
    }

    async fn erasures(&self, before: Option<(i64, i64)>, limit: u32) -> Result<Vec<Erasure>> {
        self.engine
            .read(move |conn, names| erasing::list(conn, names, before, limit))
            .await
    }

    async fn open_erasures(&self, limit: u32) -> Result<Vec<Erasure>> {
        self.engine
            .read(move |conn, names| erasing::open(conn, names, limit))
            .await
    }

    async fn erasing_files(&self, id: i64, limit: u32) -> Result<Vec<[u8; 32]>> {
        self.engine
            .read(move |conn, _| erasing::files(conn, id, limit))
            .await
    }

    async fn forget_erasing_files(
        &self,
        id: i64,
        files: Vec<[u8; 32]>,
        removed: u64,
    ) -> Result<()> {
        self.engine
            .write(0, move |tx| erasing::forget_files(tx, id, &files, removed))
            .await
    }

    async fn advance_erasure(&self, id: i64, from: Stage) -> Result<()> {
        self.engine
            .write(0, move |tx| erasing::advance(tx, id, from))
            .await
    }

    async fn wait_erasure(&self, id: i64, why: Option<String>) -> Result<()> {
        self.engine
            .write(0, move |tx| erasing::wait(tx, id, why.as_deref()))
            .await
    }

    async fn finish_erasure(&self, id: i64, copies: Copies, now: i64) -> Result<()> {
        self.engine
            .write(0, move |tx| erasing::finish(tx, id, &copies, now))
            .await
    }
}
