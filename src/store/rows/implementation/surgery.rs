//! Surgery: each operation is one job of the writer.

use async_trait::async_trait;

use crate::ids::{ContactId, ConversationId, MessageId};
use crate::store::Result;
use crate::store::rows::{Engine, RowStore, surgery};
use crate::store::surgery::{Operated, Order, StoredOperation, SurgeryStore};

#[async_trait]
impl<E: Engine> SurgeryStore for RowStore<E> {
    async fn merge_conversations(
        &self,
        from: ConversationId,
        into: ConversationId,
        order: Order,
    ) -> Result<Operated> {
        self.engine
            .write(1, move |tx| {
                surgery::once(tx, &order, |tx| surgery::merge(tx, from, into, &order))
            })
            .await
    }

    async fn split_conversation(
        &self,
        source: ConversationId,
        messages: Vec<MessageId>,
        order: Order,
    ) -> Result<Operated> {
        self.engine
            .write(1, move |tx| {
                surgery::once(tx, &order, |tx| {
                    surgery::split(tx, source, &messages, None, &order)
                })
            })
            .await
    }

    async fn move_message(
        &self,
        message: MessageId,
        to: ConversationId,
        order: Order,
    ) -> Result<Operated> {
        self.engine
            .write(1, move |tx| {
                surgery::once(tx, &order, |tx| {
                    surgery::move_message(tx, message, to, &order)
                })
            })
            .await
    }

    async fn merge_contacts(
        &self,
        from: ContactId,
        into: ContactId,
        order: Order,
    ) -> Result<Operated> {
        self.engine
            .write(1, move |tx| {
                surgery::once(tx, &order, |tx| {
                    surgery::contacts::merge(tx, from, into, &order)
                })
            })
            .await
    }

    async fn unmerge_contact(&self, contact: ContactId, order: Order) -> Result<Operated> {
        self.engine
            .write(1, move |tx| {
                surgery::once(tx, &order, |tx| {
                    surgery::contacts::parting::unmerge_contact(tx, contact, &order)
                })
            })
            .await
    }

    async fn undo(&self, event: i64, order: Order) -> Result<Operated> {
        self.engine
            .write(1, move |tx| {
                surgery::once(tx, &order, |tx| surgery::undo(tx, event, &order))
            })
            .await
    }

    async fn operations(&self, on: i64, limit: u32) -> Result<Vec<StoredOperation>> {
        self.engine
            .read(move |conn, _| surgery::operations(conn, on, limit))
            .await
    }
}
