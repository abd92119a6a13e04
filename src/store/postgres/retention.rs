//! Forgetting. What is deleted stays in its pages until these are used again; an erasure vacuums
//! them, and says what that leaves.

use async_trait::async_trait;

use crate::store::Result;
use crate::store::retention::{Forgets, Forgotten, Periods};
use crate::store::rows::Engine;
use crate::store::rows::retention::forget;

use super::PostgresStore;

#[async_trait]
impl Forgets for PostgresStore {
    async fn forget(&self, periods: Periods, messages: u32, now: i64) -> Result<Forgotten> {
        self.engine
            .write(0, move |tx| forget(tx.conn, &periods, messages, now))
            .await
    }
}
