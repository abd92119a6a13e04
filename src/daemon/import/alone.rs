//! The parts that file, without the rest: a data directory is filled before its daemon ever runs,
//! and nobody has to be reached for that.

use std::sync::Arc;

use connector_api::{CancellationToken, Clock, HttpClient, Registration};
use tokio::task::JoinHandle;

use crate::blobs::Blobs;
use crate::bus::Bus;
use crate::bus::local::LocalBus;
use crate::channels;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::daemon::route::RouterLoop;
use crate::daemon::settings::retention;
use crate::daemon::{DataDir, Keys, StartError, open_store, policy};
use crate::health::Health;
use crate::http::Reqwest;
use crate::intake::Intake;
use crate::live::Live;
use crate::router::Prepared;
use crate::store::Store;

use super::{Importer, UnderWay};

/// An importer with a router of its own, on a data directory that no daemon holds.
pub struct Alone {
    pub importer: Importer,
    stop: CancellationToken,
    router: JoinHandle<()>,
    _data_dir: DataDir,
}

impl Alone {
    pub async fn start(
        config: &Config,
        registrations: &[Registration],
    ) -> Result<Self, StartError> {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let http: Arc<dyn HttpClient> =
            Arc::new(Reqwest::new().map_err(|error| {
                StartError::Other(format!("building the HTTP client: {error}"))
            })?);
        let channels = channels::build(config, registrations, &clock, &http, &Arc::default())?;
        let data_dir = DataDir::hold(&config.server.data_dir)?;
        let sqlite = open_store(config, &data_dir)?;
        let keys = Keys::derive(sqlite.installation_key());
        let policy = Arc::new(policy(config, &channels, &keys));
        let bus: Arc<dyn Bus> = Arc::new(LocalBus::open(sqlite.clone()).await?);
        let store: Arc<dyn Store> = sqlite;
        let blobs = Blobs::open(&data_dir.path).map_err(|error| StartError::DataDir {
            path: data_dir.path.clone(),
            error,
        })?;
        let intake = Arc::new(Intake::new(
            bus.clone(),
            store.clone(),
            blobs,
            clock.clone(),
            keys.intake,
        ));
        let router = RouterLoop {
            bus: bus.clone(),
            store: store.clone(),
            policy: policy.into(),
            clock: clock.clone(),
            queues: Arc::default(),
            outbox: Arc::default(),
            health: Arc::new(Health::default()),
            prepare: Prepared::new,
            troubles: Default::default(),
        };
        let stop = CancellationToken::new();
        let token = stop.clone();
        Ok(Self {
            importer: Importer {
                channels: channels.into(),
                intake,
                bus,
                store,
                clock,
                kept: Live::new(retention(config)),
                under_way: UnderWay::default(),
            },
            router: tokio::spawn(async move { router.run(token).await }),
            stop,
            _data_dir: data_dir,
        })
    }

    /// Ends its router; what was filed is durable.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.router.await {
            tracing::warn!(%error, "the router of an import ended badly: {error}");
        }
    }
}
