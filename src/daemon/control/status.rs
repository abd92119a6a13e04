//! What the daemon says about itself: to `doctor`, which compares it with what it finds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use connector_api::{ChannelId, Check, Timestamp};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use crate::channels::{self, Channel};
use crate::clock::timestamp;
use crate::health::Health;

use super::Control;

/// Channels that are tried at the same time.
const CHECKED_AT_ONCE_MAX: usize = 16;

/// Of the running process.
#[derive(Clone)]
pub struct About {
    /// As `/version` shows it.
    pub instance: String,
    pub address: SocketAddr,
    pub health: Arc<Health>,
}

/// A part's or channel's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stands {
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it last did what it is there for; `None`: not since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worked_at: Option<Timestamp>,
}

/// What one thing that a channel needs of its provider came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    pub channel: ChannelId,
    pub check: Check,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// Whose process it is.
    pub uid: u32,
    pub instance: String,
    pub address: SocketAddr,
    /// What a reload reads; `None`: it was started without a file.
    pub config_file: Option<PathBuf>,
    pub states: BTreeMap<String, Stands>,
    pub dead_letters: i64,
    /// Answers held for a person, those of a restored backup among them.
    pub held: i64,
}

impl Control {
    pub(super) async fn status(&self) -> Result<serde_json::Value, String> {
        let about = self.about.as_ref().ok_or("this needs the running daemon")?;
        let counts = self.store.counts().await;
        let counts = counts.map_err(|error| error.to_string())?;
        let [_, _, held] = counts.outbox;
        let states = about.health.snapshot();
        let worked = about.health.last_worked();
        let stands = |name: &String, state: &crate::health::State| Stands {
            state: state.as_str().to_owned(),
            reason: state.reason().map(str::to_owned),
            worked_at: worked.get(name).map(|at| timestamp(*at)),
        };
        let reload = self.reload.as_ref();
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uid: rustix::process::geteuid().as_raw(),
            instance: about.instance.clone(),
            address: about.address,
            config_file: reload.and_then(|reload| reload.file().cloned()),
            states: states
                .iter()
                .map(|(name, state)| (name.clone(), stands(name, state)))
                .collect(),
            dead_letters: counts.dead_letters,
            held,
        };
        serde_json::to_value(status).map_err(|error| error.to_string())
    }

    /// In the order of the channels, as each connector tells its own.
    pub(super) async fn channel_checks(&self) -> Result<serde_json::Value, String> {
        let channels = self.channels.now();
        let each = futures::stream::iter(channels.values().cloned()).map(checks_of);
        let checked: Vec<Vec<Checked>> = each.buffered(CHECKED_AT_ONCE_MAX).collect().await;
        let checked: Vec<Checked> = checked.into_iter().flatten().collect();
        serde_json::to_value(checked).map_err(|error| error.to_string())
    }

    pub(super) fn environment(&self, names: &[String]) -> Result<serde_json::Value, String> {
        self.about.as_ref().ok_or("this needs the running daemon")?;
        let known = names.iter().map(|name| (name, channels::is_set(name)));
        let known: BTreeMap<&String, bool> = known.collect();
        serde_json::to_value(known).map_err(|error| error.to_string())
    }
}

async fn checks_of(channel: Arc<Channel>) -> Vec<Checked> {
    let checks = channels::check(&channel).await.into_iter();
    let of = |check| Checked {
        channel: channel.id.clone(),
        check,
    };
    checks.map(of).collect()
}
