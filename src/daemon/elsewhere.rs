//! What other processes of the installation have and this one has not. While a configuration is brought to one after
//! the other they differ: what belongs to a channel or a queue of one of them is not given up by the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connector_api::{ChannelId, Clock};
use tokio::time::Instant;

use crate::clock::micros;
use crate::config::Config;
use crate::live::Live;
use crate::store::{Declared, Result, Store};

use super::processes;

/// Within so long a process that takes messages of a channel has said that it has it.
const SAID_WITHIN: Duration = Duration::from_secs(20);

/// What the others have.
pub struct Elsewhere {
    /// `None` where there are no others.
    others: Option<Others>,
    /// Channels that nobody said they have, and since when they are missed.
    missed: Mutex<HashMap<ChannelId, Instant>>,
}

struct Others {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    config: Live<Config>,
    instance: String,
}

impl Elsewhere {
    /// For the one process of its store.
    pub fn nowhere() -> Self {
        Self {
            others: None,
            missed: Mutex::default(),
        }
    }

    /// For one of several; `instance` is its own name among them.
    pub fn of(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        config: Live<Config>,
        instance: String,
    ) -> Self {
        Self {
            others: Some(Others {
                store,
                clock,
                config,
                instance,
            }),
            missed: Mutex::default(),
        }
    }

    /// Channels and queues that a process which is there has, and this one has not.
    pub async fn declared(&self) -> Result<Declared> {
        let mut declared = Declared::default();
        let Some(others) = &self.others else {
            return Ok(declared);
        };
        let all = processes::all(others.store.as_ref(), micros(others.clock.now())).await?;
        for (row, said) in all {
            if row.instance != others.instance {
                declared.channels.extend(said.channels);
                declared.queues.extend(said.queues);
            }
        }
        let own = others.config.now();
        declared
            .channels
            .retain(|id| !own.channels.contains_key(id));
        declared.queues.retain(|id| !own.queues.contains_key(id));
        Ok(declared)
    }

    /// Why a record of a channel that is not configured here has to wait; `None` where no process has the channel.
    pub async fn waits_for(&self, channel: &ChannelId) -> Option<String> {
        self.others.as_ref()?;
        let declared = match self.declared().await {
            Ok(declared) => declared,
            Err(error) => {
                return Some(format!(
                    "channel {channel} is not configured here, and whether another process has it is not known: {error}"
                ));
            }
        };
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if declared.channels.contains(channel) {
            missed.remove(channel);
            return Some(format!(
                "channel {channel} is configured at another process and not at this one: give all the same \
                 configuration, and reload"
            ));
        }
        let since = missed.entry(channel.clone()).or_insert_with(Instant::now);
        (since.elapsed() < SAID_WITHIN).then(|| {
            format!("channel {channel} is not configured here: whether another process has it is to be seen")
        })
    }
}
