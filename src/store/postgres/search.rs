//! Full-text search, for a bounded time.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::error::SqlState;

use crate::store::Result;
use crate::store::rows::Engine;
use crate::store::rows::search::{find, index};
use crate::store::search::{Indexed, Search, SearchRequest, Searched};
use crate::store::sql::Conn;

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
            let found = find::find(conn, names, &request);
            let failure = match conn {
                Conn::Postgres(session) => session.take_failure(),
                Conn::Sqlite(_) => None,
            };
            match failure {
                Some(SqlState::QUERY_CANCELED) => Ok(Searched::TooBroad),
                _ => found,
            }
        });
        found.await
    }

    async fn index(&self, limit: u32) -> Result<Indexed> {
        index::step(&self.engine, limit).await
    }
}
