//! Macros and drafts: each call is one job of the writer or one query of a reader.

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::dispatch::Actor;
use crate::dispatch::macros::Macro;
use crate::ids::ConversationId;
use crate::router::facts::Conversation;
use crate::store::macros::{Macros, Rendered, StoredDraft, StoredMacro, UseMacro};
use crate::store::rows::{Engine, RowStore, drafts, macros};
use crate::store::{Result, StoredMessage};

#[async_trait]
impl<E: Engine> Macros for RowStore<E> {
    async fn macros(&self, actor: Actor) -> Result<Vec<StoredMacro>> {
        self.engine
            .read(move |conn, _| macros::list(conn, &actor))
            .await
    }

    async fn find_macro(&self, actor: Actor, id: i64) -> Result<Option<StoredMacro>> {
        self.engine
            .read(move |conn, _| macros::find(conn, &actor, id))
            .await
    }

    async fn save_macro(
        &self,
        actor: Actor,
        id: Option<i64>,
        content: Macro,
        version: Option<i64>,
        now: i64,
    ) -> Result<StoredMacro> {
        self.engine
            .write(0, move |tx| {
                macros::save(tx, &actor, id, content.clone(), version, now)
            })
            .await
    }

    async fn delete_macro(&self, actor: Actor, id: i64, version: Option<i64>) -> Result<()> {
        self.engine
            .write(0, move |tx| macros::delete(tx, &actor, id, version))
            .await
    }

    async fn preview_macro(&self, using: UseMacro) -> Result<Rendered> {
        self.engine
            .read(move |conn, names| macros::preview(conn, names, &using))
            .await
    }

    async fn use_macro(
        &self,
        using: UseMacro,
    ) -> Result<(Option<StoredMessage>, Option<Conversation>)> {
        let senders = self.known_senders();
        self.engine
            .write_beside(1, move |tx| {
                let (message, found) = macros::apply(tx, &using, senders.as_deref())?;
                let message = match message {
                    Some(id) => Some(super::written(tx, id)?.0),
                    None => None,
                };
                Ok((message, found))
            })
            .await
    }

    async fn draft(
        &self,
        actor: Actor,
        conversation: ConversationId,
    ) -> Result<Option<StoredDraft>> {
        self.engine
            .read(move |conn, names| drafts::find(conn, names, &actor, conversation))
            .await
    }

    async fn save_draft(
        &self,
        actor: Actor,
        conversation: ConversationId,
        content: Map<String, Value>,
        version: Option<i64>,
        now: i64,
    ) -> Result<StoredDraft> {
        self.engine
            .write_beside(0, move |tx| {
                drafts::save(tx, &actor, conversation, content.clone(), version, now)
            })
            .await
    }

    async fn delete_draft(
        &self,
        actor: Actor,
        conversation: ConversationId,
        version: Option<i64>,
    ) -> Result<()> {
        self.engine
            .write_beside(0, move |tx| {
                drafts::delete(tx, &actor, conversation, version)
            })
            .await
    }
}
