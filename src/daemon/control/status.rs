//! What the daemon says about itself: to `doctor`, which compares it with what it finds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::health::Health;

use super::Control;

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
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// Whose process it is.
    pub uid: u32,
    pub instance: String,
    pub address: SocketAddr,
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
        let stands = |state: &crate::health::State| Stands {
            state: state.as_str().to_owned(),
            reason: state.reason().map(str::to_owned),
        };
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uid: rustix::process::geteuid().as_raw(),
            instance: about.instance.clone(),
            address: about.address,
            states: states
                .iter()
                .map(|(name, state)| (name.clone(), stands(state)))
                .collect(),
            dead_letters: counts.dead_letters,
            held,
        };
        serde_json::to_value(status).map_err(|error| error.to_string())
    }
}
