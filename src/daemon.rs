//! Wiring: opens what is configured, starts the parts that this process runs, and ends them in order.

use std::net::SocketAddr;
use std::sync::Arc;

use connector_api::{Clock, HttpClient, Registration};
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::bus::Bus;
use crate::channels::{Built, Channels, Moment, build_marked};
use crate::clock::{SystemClock, micros};
use crate::config::{Config, Part};
use crate::credentials::Keeper;
use crate::health::Health;
use crate::http::Reqwest;
use crate::inbound::Webhooks;
use crate::intake::Intake;
use crate::live::Live;
use crate::store::Store;
use crate::telemetry;
use crate::wake::Wakes;

mod accepting;
mod alerting;
pub mod backup;
mod bells;
mod bus_state;
#[cfg(any(feature = "kafka", feature = "postgres"))]
mod buses;
pub mod channel_test;
mod channels;
pub mod control;
mod copying;
mod core;
mod data_dir;
pub mod elsewhere;
pub mod erasing;
#[cfg(feature = "postgres")]
mod files;
mod forgetting;
#[cfg(feature = "kafka")]
pub mod growing;
mod housekeeping;
pub mod import;
mod indexing;
mod installation;
pub mod leased;
mod listener;
#[cfg(all(feature = "kafka", feature = "postgres"))]
pub mod moving;
mod named;
pub mod notify;
mod outbox;
mod parts;
pub mod processes;
pub mod reconcile;
pub mod relays;
pub mod reload;
pub mod route;
mod settings;
pub mod shared;
mod shutdown;
mod start_error;
mod store_state;
mod supervise;
mod timers;
mod waiting;
pub mod watch;

pub use alerting::targets;
use channels::{Around, ChannelSet};
use core::Core;
pub use data_dir::DataDir;
use elsewhere::Elsewhere;
pub use installation::Installation;
use leased::{Holder, Leases};
pub use listener::{certificates, tls_files};
pub use named::refuse_missing;
use notify::Manager;
use processes::ProcessRows;
use reconcile::{DECIDED_WITHIN, Reconciler};
use reload::{Parts, Reload, Source};
pub use settings::{Keys, policy, warn_of};
pub use shutdown::SHUTDOWN_MAX;
use shutdown::{Stop, Tasks};
pub use start_error::StartError;
use watch::Watch;

/// A running daemon.
pub struct Daemon {
    pub address: SocketAddr,
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub intake: Arc<Intake>,
    pub channels: Channels,
    pub health: Arc<Health>,
    pub reload: Arc<Reload>,
    core: Core,
    tasks: Tasks,
}

impl Daemon {
    /// Starts every part that the configuration names. Returns once the API listens and the store is open;
    /// channels, and a bus elsewhere, connect by themselves.
    /// `restored`: the store was set back, so nothing unsent in it leaves by itself.
    /// `manager` is told of the start, and from then on how the daemon is.
    pub async fn start(
        config: Config,
        registrations: &[Registration],
        restored: bool,
        manager: Arc<Manager>,
    ) -> Result<Self, StartError> {
        // A second call in one process finds it installed.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let metrics = telemetry::metrics().map_err(StartError::Other)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let http: Arc<dyn HttpClient> =
            Arc::new(Reqwest::new().map_err(|error| {
                StartError::Other(format!("building the HTTP client: {error}"))
            })?);
        let credentials = Arc::new(Keeper::default());
        let Built { channels, secrets } = build_marked(
            &config,
            registrations,
            &clock,
            &http,
            &credentials,
            Moment::Start,
        )?;
        let certificates = certificates(&config, clock.now())?;
        let targets = Live::new(targets(&config, &channels, Moment::Start)?);
        refuse_missing(&config)?;
        warn_of(&config, &channels);

        let data_dir = DataDir::hold(&config.server.data_dir)?;
        let moved = Installation::refuse_moved(&config, &data_dir, restored)?;
        let health = Arc::new(Health::default());
        let (listener, address) = bind(config.server.listen)?;
        let installation = waiting::opened(
            &config,
            &data_dir,
            &listener,
            certificates.as_ref(),
            &health,
            &manager,
        )
        .await?;
        let store = installation.store();
        let keys = Arc::new(Keys::derive(store.installation_key()));
        let blobs = installation.blobs(&config, &data_dir).await?;
        let bus = installation.bus(&config, &blobs).await?;
        let vault = Keys::derive(store.installation_key()).vault;
        credentials.open(store.clone(), vault);
        let intake = Arc::new(Intake::new(
            bus.clone(),
            store.clone(),
            blobs.clone(),
            clock.clone(),
            keys.intake.clone(),
        ));
        let now = micros(clock.now());
        installation
            .hold_what_was_restored(&data_dir, restored, now)
            .await?;
        if moved {
            data_dir.unmark_moved()?;
        }
        let instance = uuid::Uuid::now_v7().as_simple().to_string();
        let parts = Parts {
            channels: channels.clone().into(),
            policy: Live::new(policy(&config, &channels, &keys)),
            queues: Live::new(config.queues.keys().cloned().collect()),
            brands: Live::new(settings::brands(&config)),
            facts: Live::new(settings::channel_facts(&config, &channels)),
            kept: Live::new(settings::retention(&config)),
            targets,
            config: Live::new(config),
        };
        let config = parts.config.now();
        let elsewhere = Arc::new(match installation.is_shared() {
            false => Elsewhere::nowhere(),
            true => {
                let (store, clock) = (store.clone(), clock.clone());
                Elsewhere::of(store, clock, parts.config.clone(), instance.clone())
            }
        });
        outbox::begin(&installation, &config, &channels, &elsewhere, now).await?;
        outbox::tell(&health, &store.counts().await?);

        let leases = match installation.is_shared() {
            false => Leases::Unneeded,
            true => Leases::Of(Arc::new(Holder {
                store: store.clone(),
                clock: clock.clone(),
                instance: instance.clone(),
            })),
        };
        let stop = Stop::default();
        let (queues, outbox) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let sources = Arc::new(Wakes::default());
        let runs = |part| config.run.parts.contains(&part);
        let set = Arc::new(ChannelSet::new(Around {
            store: store.clone(),
            intake: intake.clone(),
            clock: clock.clone(),
            health: health.clone(),
            leases: leases.clone(),
            reads: runs(Part::Inbound),
            sends: runs(Part::Outbound),
            queues: queues.clone(),
            outbox: outbox.clone(),
            blobs: blobs.clone(),
            ids: keys.ids.clone(),
            reply_tokens: keys.reply_tokens.clone(),
            sources: sources.clone(),
            accepting: stop.accepting.clone(),
            sending: stop.sending.clone(),
        }));
        let processes = Arc::new(ProcessRows {
            store: store.clone(),
            bus: bus.clone(),
            intake: intake.clone(),
            clock: clock.clone(),
            health: health.clone(),
            instance: instance.clone(),
            parts: (config.run.parts.iter())
                .map(|part| part.as_str().to_owned())
                .collect(),
            config: parts.config.clone(),
            is_shared: installation.is_shared(),
        });
        let reconciler = Arc::new(Reconciler {
            store: store.clone(),
            channels: parts.channels.clone(),
            policy: parts.policy.clone(),
            clock: clock.clone(),
            bus: Some(bus.clone()),
            decided_within: DECIDED_WITHIN,
            turn: Default::default(),
        });
        let core = Core {
            reconciler,
            processes,
            data_dir,
            is_shared: installation.is_shared(),
            store: store.clone(),
            bus: bus.clone(),
            blobs,
            intake: intake.clone(),
            clock: clock.clone(),
            health: health.clone(),
            metrics,
            leases,
            queues,
            outbox,
            sources,
            parts,
            elsewhere: elsewhere.clone(),
            keys: keys.clone(),
            instance,
            stop,
        };

        let mut tasks = Tasks::default();
        parts::beside(&core, &mut tasks);
        for (part, start) in [
            (Part::Inbound, parts::inbound as fn(&Core, &mut Tasks)),
            (Part::Router, parts::router),
            (Part::Dispatch, parts::dispatch),
        ] {
            if core.runs(part) {
                start(&core, &mut tasks);
            }
        }
        set.run(&channels);
        let reload = Arc::new(Reload {
            parts: core.parts.clone(),
            registrations: registrations.to_vec(),
            clock,
            http,
            credentials,
            keys,
            store: store.clone(),
            health: health.clone(),
            waiting: core.queues.clone(),
            set,
            elsewhere,
            secrets: secrets.into(),
            source: std::sync::OnceLock::new(),
            manager: manager.clone(),
            busy: tokio::sync::Mutex::default(),
        });
        let hooks = Arc::new(Webhooks {
            channels: core.parts.channels.clone(),
            intake: intake.clone(),
        });
        let listener = TcpListener::from_std(listener)
            .map_err(|error| StartError::Listen { address, error })?;
        parts::listen(&core, &mut tasks, listener, certificates, hooks.clone())?;
        parts::control(&core, &mut tasks, address, hooks, reload.clone())?;
        let dir = core.data_dir.path.display();
        info!(%address, data_dir = %dir, "switchboard listens on {address}");
        if manager.is_there() {
            let watch = Watch::new(manager, bus.clone(), health.clone());
            let watching = watch.run(core.stop.routing.clone());
            tasks.routing.push(tokio::spawn(watching));
        }
        Ok(Self {
            address,
            store,
            bus,
            intake,
            channels,
            health,
            reload,
            core,
            tasks,
        })
    }

    /// From where its configuration is read again.
    pub fn reloads_from(&self, source: Source) {
        if self.reload.source.set(source).is_err() {
            warn!("where the configuration is read from again was said twice; the first stays");
        }
    }

    /// Ends in order, within [`SHUTDOWN_MAX`].
    pub async fn stop(self) {
        let set = self.reload.set.clone();
        shutdown::stop(self.core.stop, self.tasks, &set, self.bus.as_ref()).await;
    }
}

/// From here on whoever connects waits, and is not refused.
fn bind(address: SocketAddr) -> Result<(std::net::TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { address, error };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
