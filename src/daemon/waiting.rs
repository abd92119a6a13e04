//! A start while the database is away: the process is up, says what it waits for, and goes on by itself.

use std::sync::Arc;
use std::time::Duration;

use connector_api::CancellationToken;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::api;
use crate::api::tls::Certificates;
use crate::config::Config;
use crate::health::{Health, State};
use crate::store::StoreError;

use super::installation::Installation;
use super::notify::Manager;
use super::{DataDir, StartError, store_state};

/// Between two tries to reach it.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The same where it does not take our password: servers lock users out who try too often.
const TRUSTED_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Opens the installation, however long its database takes to be there.
pub async fn opened(
    config: &Config,
    data_dir: &DataDir,
    listener: &std::net::TcpListener,
    certificates: Option<&Arc<Certificates>>,
    health: &Arc<Health>,
    manager: &Manager,
) -> Result<Installation, StartError> {
    let mut answering: Option<Answering> = None;
    loop {
        let again_after;
        match Installation::open(config, &data_dir.path).await {
            Err(StartError::Store(
                error @ (StoreError::Unavailable(_) | StoreError::Unauthorized(_)),
            )) if config.store.kind == crate::config::StoreKind::Postgres => {
                let state = store_state::state_of(&error);
                again_after = match state {
                    State::Unauthorized { .. } => TRUSTED_AGAIN_AFTER,
                    _ => AGAIN_AFTER,
                };
                let reason = state.reason().unwrap_or_default();
                manager.waiting(&format!("waits for the database: {reason}"));
                health.set(store_state::NAME, state);
                if answering.is_none() {
                    answering = Some(Answering::start(listener, certificates, health)?);
                }
            }
            opened => {
                if let Some(answering) = answering {
                    answering.end().await;
                }
                return opened;
            }
        }
        tokio::time::sleep(again_after).await;
    }
}

/// Says meanwhile how it is.
struct Answering {
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Answering {
    fn start(
        listener: &std::net::TcpListener,
        certificates: Option<&Arc<Certificates>>,
        health: &Arc<Health>,
    ) -> Result<Self, StartError> {
        let other = |error: std::io::Error| StartError::Other(format!("the listener: {error}"));
        let listener = listener.try_clone().map_err(other)?;
        let listener = TcpListener::from_std(listener).map_err(other)?;
        let acceptor = certificates.map(|certificates| certificates.acceptor());
        let acceptor = acceptor
            .transpose()
            .map_err(|error| StartError::Other(format!("setting up TLS: {error}")))?;
        let stop = CancellationToken::new();
        let serving = api::serve_waiting(listener, acceptor, health.clone(), stop.clone());
        Ok(Self {
            stop,
            serving: tokio::spawn(serving),
        })
    }

    async fn end(self) {
        self.stop.cancel();
        drop(self.serving.await);
    }
}
