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
        match Installation::open(config, &data_dir.path).await {
            Err(StartError::Store(StoreError::Unavailable(reason)))
                if config.store.kind == crate::config::StoreKind::Postgres =>
            {
                manager.waiting(&format!("waits for the database: {reason}"));
                health.set(store_state::NAME, State::Unreachable { reason });
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
        tokio::time::sleep(AGAIN_AFTER).await;
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
