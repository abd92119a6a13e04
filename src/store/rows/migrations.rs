//! How the tables of an earlier version become those of this one, forward only.
//!
//! While processes are replaced one after the other, the version before works on the tables of the one after.
//! So a migration adds, and what nobody needs any more goes a version later. The database knows the oldest
//! version that can work on it (`meta`, key `schema_oldest`).

use crate::store::{Result, StoreError};

/// What leads to a version.
pub struct Migration {
    pub to: i64,
    /// The oldest version that can work on the tables afterwards.
    pub oldest: i64,
    /// Of every store, in SQLite's words as schema.sql is.
    pub common: &'static str,
}

/// In order, without a gap. What is added here is in schema.sql, too, for databases that are new.
const MIGRATIONS: [Migration; 3] = [
    Migration {
        to: 2,
        oldest: 1,
        common: include_str!("migrations/2.sql"),
    },
    Migration {
        to: 3,
        oldest: 1,
        common: include_str!("migrations/3.sql"),
    },
    Migration {
        to: 4,
        oldest: 1,
        common: include_str!("migrations/4.sql"),
    },
];

/// The version that this build makes, and needs.
pub const SCHEMA_VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].to;
/// The oldest version that can work on what this build makes.
pub const SCHEMA_OLDEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].oldest;

/// What a database says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub version: i64,
    pub oldest: i64,
}

impl Found {
    /// Whether this build can work on it, once it has brought it to its version.
    pub fn can_be_used(self) -> bool {
        self.version.min(self.oldest) <= SCHEMA_VERSION
    }
}

/// What has to be done with a database before it is used: nothing, or everything that this gives.
///
/// # Errors
///
/// It is of a version that this build cannot work on.
pub fn steps(found: Found) -> Result<&'static [Migration]> {
    let Found { version, oldest } = found;
    if !found.can_be_used() {
        return Err(StoreError::Unavailable(format!(
            "the database has schema version {version}, on which version {oldest} and later can work; this build knows \
             {SCHEMA_VERSION}: start the newer build"
        )));
    }
    let done = MIGRATIONS.iter().take_while(|step| step.to <= version);
    Ok(&MIGRATIONS[done.count()..])
}
