//! What is configured to hold everything: one pair of store and bus for one process, another for several.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use crate::blobs::Blobs;
use crate::bus::Bus;
use crate::bus::local::LocalBus;
use crate::config::{Config, ConfigErrors, StoreKind};
#[cfg(feature = "postgres")]
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};
use crate::words::counted;

use super::settings::names;
use super::{DataDir, StartError, shared};

/// The opened store. Its bus goes with it.
#[derive(Clone)]
pub enum Installation {
    /// This process has it for itself.
    Own(Arc<SqliteStore>),
    /// Several processes have it.
    #[cfg(feature = "postgres")]
    Shared(Arc<PostgresStore>),
}

impl Installation {
    /// Refuses an installation that was moved elsewhere, unless what it has unsent is to be held; whether it was.
    pub fn refuse_moved(
        config: &Config,
        data_dir: &DataDir,
        restored: bool,
    ) -> Result<bool, StartError> {
        // What several processes share is not in their directories.
        if config.store.kind != StoreKind::Sqlite {
            return Ok(false);
        }
        match data_dir.moved_to()? {
            Some(to) if !restored => {
                let (key, mut errors) = ("server.data_dir", ConfigErrors::default());
                errors.push(config.origin(key), key, data_dir.refusal_of_moved(&to));
                Err(errors.into())
            }
            moved => Ok(moved.is_some()),
        }
    }

    /// Opens the store. A database that cannot be reached is [`StoreError::Unavailable`]; one that will
    /// not have us is another error.
    /// `dir`: the data directory, which only a store of its own is in.
    pub async fn open(config: &Config, dir: &Path) -> Result<Self, StartError> {
        let (names, queues) = names(config);
        match config.store.kind {
            StoreKind::Sqlite => {
                let opened = SqliteStore::open(dir, &names, &queues)?;
                Ok(Self::Own(Arc::new(opened)))
            }
            #[cfg(feature = "postgres")]
            StoreKind::Postgres => {
                let database = shared::database(config)?;
                let accepted = shared::accepted(config);
                let opened = PostgresStore::open(database, names, queues, accepted).await;
                let opened = opened.map_err(|error| shared::explained(error, config))?;
                Ok(Self::Shared(Arc::new(opened)))
            }
            // Refused when the configuration was read.
            #[cfg(not(feature = "postgres"))]
            StoreKind::Postgres => {
                let reason = "PostgreSQL is not built into this binary";
                Err(StartError::Other(reason.to_owned()))
            }
        }
    }

    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Own(store) => store.clone(),
            #[cfg(feature = "postgres")]
            Self::Shared(store) => store.clone(),
        }
    }

    /// Whether other processes work with it, too.
    pub fn is_shared(&self) -> bool {
        !matches!(self, Self::Own(_))
    }

    /// The bus that goes with it. Kafka need not be there yet.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(unused_variables, reason = "the log of one process has no setting")
    )]
    pub async fn bus(&self, config: &Config, blobs: &Blobs) -> Result<Arc<dyn Bus>, StartError> {
        match self {
            Self::Own(store) => Ok(Arc::new(LocalBus::open(store.clone()).await?)),
            #[cfg(feature = "postgres")]
            Self::Shared(store) => super::buses::kafka(config, store.clone(), blobs.clone()),
        }
    }

    /// The files that go with it. Processes that share a database and not their files are refused: a
    /// message's attachment would be where only one of them finds it.
    pub async fn blobs(&self, config: &Config, data_dir: &DataDir) -> Result<Blobs, StartError> {
        #[cfg(feature = "postgres")]
        if let Some(blobs) = super::files::configured(config, &data_dir.path)? {
            if let Some(bucket) = blobs.bucket() {
                super::files::first_look(self.store().as_ref(), bucket).await?;
            }
            return Ok(blobs);
        }
        let dir = blobs_dir(config, &data_dir.path);
        let blobs = Blobs::open(&dir).map_err(|error| StartError::DataDir {
            path: dir.clone(),
            error,
        })?;
        if self.is_shared() {
            shared::same_files(self.store().as_ref(), &dir).await?;
        }
        Ok(blobs)
    }

    /// Holds everything unsent of a database that did not run here last, or that is said to be restored.
    pub async fn hold_what_was_restored(
        &self,
        data_dir: &DataDir,
        restored: bool,
        now: i64,
    ) -> Result<(), StoreError> {
        let held = match self {
            Self::Own(store) => store.follow_lineage(&data_dir.path, restored, now).await?,
            #[cfg(feature = "postgres")]
            Self::Shared(store) => match restored {
                true => Some(store.hold_unsent(true, now).await?.0),
                false => None,
            },
        };
        if let Some(held) = held {
            warn!(
                held,
                "this database was restored from a backup: {}, see switchboard outbox list",
                counted(held, "unsent reply is held", "unsent replies are held")
            );
        }
        Ok(())
    }
}

/// Where the files of an installation are.
pub fn blobs_dir(config: &Config, data_dir: &Path) -> PathBuf {
    let named = config.store.blobs_dir.clone();
    named.unwrap_or_else(|| data_dir.join("blobs"))
}
