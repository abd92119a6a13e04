//! The parts that file, without the rest: a data directory is filled before its daemon ever runs,
//! and nobody has to be reached for that.

use std::sync::Arc;

use connector_api::{CancellationToken, Clock, HttpClient, Registration};
use tokio::task::JoinHandle;

use crate::channels;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::daemon::elsewhere::Elsewhere;
use crate::daemon::route::RouterLoop;
use crate::daemon::settings::retention;
use crate::daemon::{DataDir, Installation, Keys, StartError, policy};
use crate::health::Health;
use crate::http::Reqwest;
use crate::intake::Intake;
use crate::live::Live;
use crate::router::Prepared;

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
        let installation = Installation::open(config, &data_dir.path).await?;
        let store = installation.store();
        let keys = Keys::derive(store.installation_key());
        let policy = Arc::new(policy(config, &channels, &keys));
        let blobs = installation.blobs(config, &data_dir).await?;
        let bus = installation.bus(config, &blobs).await?;
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
            elsewhere: Arc::new(match installation.is_shared() {
                false => Elsewhere::nowhere(),
                true => {
                    let config = Live::new(config.clone());
                    Elsewhere::of(store.clone(), clock.clone(), config, "import".to_owned())
                }
            }),
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
