//! What people do at the desk, on the embedded store.

use async_trait::async_trait;
use connector_api::QueueId;

use crate::dispatch::{Action, Actor};
use crate::ids::{ConversationId, MessageId};
use crate::router::facts::Conversation;
use crate::store::rows::{Engine, RowStore, desk};
use crate::store::{
    Asked, ContactEdit, Desk, Doing, Idempotency, NewConversation, NewReply, Result, Rings,
    StoredContact, StoredMessage, Woken,
};

#[async_trait]
impl<E: Engine> Desk for RowStore<E> {
    async fn claim(
        &self,
        queue: &QueueId,
        actor: Actor,
        idempotency: Option<Idempotency>,
        now: i64,
    ) -> Result<Option<Conversation>> {
        let queue = queue.clone();
        self.engine
            .write_beside(1, move |tx| {
                desk::claim(tx, &queue, &actor, idempotency.as_ref(), now)
            })
            .await
    }

    async fn act(
        &self,
        conversation: ConversationId,
        actor: Actor,
        action: Action,
        version: Option<i64>,
        now: i64,
    ) -> Result<Conversation> {
        self.engine
            .write_beside(1, move |tx| {
                desk::act(tx, conversation, &actor, action, version, now)
            })
            .await
    }

    async fn reply(&self, reply: NewReply) -> Result<(StoredMessage, Conversation)> {
        let senders = self.known_senders();
        self.engine
            .write_beside(1, move |tx| {
                let id = desk::reply(tx, &reply, senders.as_deref())?;
                super::written(tx, id)
            })
            .await
    }

    async fn note(&self, note: NewReply) -> Result<(StoredMessage, Conversation)> {
        self.engine
            .write_beside(1, move |tx| {
                let id = desk::note(tx, &note)?;
                super::written(tx, id)
            })
            .await
    }

    async fn start(&self, new: NewConversation) -> Result<(StoredMessage, Conversation)> {
        let senders = self.known_senders();
        self.engine
            .write_beside(1, move |tx| {
                let id = desk::start(tx, &new, senders.as_deref())?;
                super::written(tx, id)
            })
            .await
    }

    async fn perform(&self, doing: Doing) -> Result<Conversation> {
        let senders = self.known_senders();
        self.engine
            .write_beside(1, move |tx| desk::perform(tx, &doing, senders.as_deref()))
            .await
    }

    async fn once(&self, key: Idempotency, asked: Asked) -> Result<Option<Conversation>> {
        let senders = self.known_senders();
        self.engine
            .write_beside(1, move |tx| {
                desk::once(tx, &key, &asked, senders.as_deref())
            })
            .await
    }

    async fn cancel(
        &self,
        message: MessageId,
        actor: Actor,
        now: i64,
    ) -> Result<(StoredMessage, Rings)> {
        self.engine
            .write_beside(1, move |tx| {
                let rings = desk::cancel(tx, message, &actor, now)?;
                Ok((super::written(tx, message)?.0, rings))
            })
            .await
    }

    async fn edit_contact(&self, edit: ContactEdit) -> Result<StoredContact> {
        self.engine
            .write_beside(0, move |tx| desk::edit_contact(tx, &edit))
            .await
    }

    async fn wake_due(&self, limit: u32, now: i64) -> Result<Woken> {
        self.engine
            .write_beside(1, move |tx| desk::wake_due(tx, limit, now))
            .await
    }
}
