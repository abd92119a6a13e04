//! Full-text search, for a bounded time.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::error::SqlState;

use crate::store::rows::Engine;
use crate::store::rows::search::{find, index};
use crate::store::search::{Indexed, Search, SearchRequest, Searched};
use crate::store::{Result, StoreError};

use super::PostgresStore;

/// How long a statement of a search may take: what finds a page finds it in a few milliseconds.
const TIME_MAX: Duration = Duration::from_millis(500);

#[async_trait]
impl Search for PostgresStore {
    async fn search(&self, request: SearchRequest) -> Result<Searched> {
        let found = self.engine.read(move |conn, names| {
            conn.batch(&format!(
                "SET LOCAL statement_timeout = {}",
                TIME_MAX.as_millis()
            ))?;
            find::find(conn, names, &request)
        });
        match found.await {
            Err(StoreError::Unavailable(reason))
                if reason.contains(SqlState::QUERY_CANCELED.code()) =>
            {
                Ok(Searched::TooBroad)
            }
            found => found,
        }
    }

    async fn index(&self, limit: u32) -> Result<Indexed> {
        index::step(&self.engine, limit).await
    }
}
