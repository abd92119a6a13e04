//! Wiring: builds every part from the configuration, starts the tasks, and ends them in order:
//! nothing new is accepted, what is under way is finished, then the store closes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, Clock, HttpClient, Registration};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::api::{self, ApiState, Deadlines, FileLinks};
use crate::blobs::Blobs;
use crate::bus::Bus;
use crate::bus::local::LocalBus;
use crate::channels::{Built, Channels, Moment, build_marked};
use crate::clock::{SystemClock, micros};
use crate::config::{BusKind, Config};
use crate::credentials::Keeper;
use crate::health::{Health, State};
use crate::http::Reqwest;
use crate::inbound::Webhooks;
use crate::inbound::attachments::Fetcher;
use crate::intake::Intake;
use crate::live::Live;
use crate::router::Prepared;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::telemetry;
use crate::wake::Wakes;

mod accepting;
mod alerting;
mod bus_state;
mod buses;
pub mod channel_test;
mod channels;
pub mod control;
mod data_dir;
mod forgetting;
mod housekeeping;
pub mod import;
mod indexing;
mod listener;
mod outbox;
pub mod reload;
pub mod route;
mod settings;
mod start_error;
mod supervise;
mod timers;

use accepting::Accepting;
use alerting::Alerting;
pub use alerting::targets;
use channel_test::ChannelTests;
use channels::{Around, ChannelSet};
pub use data_dir::DataDir;
use forgetting::Forgetting;
use housekeeping::{FILES, Housekeeping, KEEPING};
use import::{Importer, UnderWay};
use indexing::{INDEXING, Indexing};
pub use listener::{certificates, tls_files};
use reload::{Parts, Reload, Source};
use route::RouterLoop;
pub use settings::{Keys, open_store, policy, warn_of};
pub use start_error::StartError;
use supervise::supervise;
use timers::Timers;

/// All of a shutdown, from the signal to the closed store.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(9);
/// How long sends under way may still take.
const SENDS_FINISH_MAX: Duration = Duration::from_secs(5);
const REQUESTS_FINISH_MAX: Duration = Duration::from_secs(2);
/// Bytes of webhook requests in memory at once, of all together.
const HOOKS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Under which name the fetcher's state is kept; it makes nothing unready.
const FETCHER: &str = "work:attachments";

/// A running daemon.
pub struct Daemon {
    pub address: SocketAddr,
    pub store: Arc<SqliteStore>,
    pub bus: Arc<dyn Bus>,
    pub intake: Arc<Intake>,
    pub channels: Channels,
    pub health: Arc<Health>,
    pub reload: Arc<Reload>,
    set: Arc<ChannelSet>,
    stop: Stop,
    tasks: Tasks,
    _data_dir: DataDir,
}

struct Stop {
    accepting: CancellationToken,
    routing: CancellationToken,
    sending: CancellationToken,
}

#[derive(Default)]
struct Tasks {
    accepting: Vec<JoinHandle<()>>,
    routing: Vec<JoinHandle<()>>,
    sending: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// Starts every part. Returns once the API listens and the router owns its partition's log;
    /// channels connect by themselves.
    /// `restored`: the data directory was set back, so nothing unsent in it leaves by itself.
    pub async fn start(
        config: Config,
        registrations: &[Registration],
        restored: bool,
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
        warn_of(&config, &channels);

        let data_dir = DataDir::hold(&config.server.data_dir)?;
        let store = open_store(&config, &data_dir)?;
        let keys = Arc::new(Keys::derive(store.installation_key()));
        let policy = Live::new(policy(&config, &channels, &keys));
        let blobs = Blobs::open(&data_dir.path).map_err(|error| StartError::DataDir {
            path: data_dir.path.clone(),
            error,
        })?;
        let bus: Arc<dyn Bus> = match config.bus.kind {
            BusKind::Local => Arc::new(LocalBus::open(store.clone()).await?),
            BusKind::Kafka => buses::kafka(&config, store.clone(), blobs.clone())?,
        };
        let shared: Arc<dyn Store> = store.clone();
        let vault = Keys::derive(store.installation_key()).vault;
        credentials.open(shared.clone(), vault);
        let intake = Arc::new(Intake::new(
            bus.clone(),
            shared.clone(),
            blobs.clone(),
            clock.clone(),
            keys.intake.clone(),
        ));
        let health = Arc::new(Health::default());
        let now = micros(clock.now());
        outbox::hold_what_was_restored(&store, &data_dir.path, restored, now).await?;
        outbox::recover(store.as_ref(), &config, &channels, now).await?;
        outbox::tell(&health, &store.counts().await?);

        let (queues, outbox) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let sources = Arc::new(Wakes::default());
        let stop = Stop {
            accepting: CancellationToken::new(),
            routing: CancellationToken::new(),
            sending: CancellationToken::new(),
        };
        let mut tasks = Tasks::default();

        health.set(accepting::NAME, State::Starting);
        let accepting = Accepting {
            intake: intake.clone(),
            store: shared.clone(),
            clock: clock.clone(),
            health: health.clone(),
        };
        let run = |accepting: Arc<Accepting>, stop| async move { accepting.run(stop).await };
        (tasks.accepting).push(supervise(
            accepting::NAME,
            &health,
            &stop.accepting,
            Arc::new(accepting),
            run,
        ));
        let following = bus_state::follow(bus.clone(), health.clone(), stop.routing.clone());
        tasks.routing.push(tokio::spawn(following));
        health.set("router", State::Starting);
        let router = RouterLoop {
            bus: bus.clone(),
            store: shared.clone(),
            policy: policy.clone(),
            clock: clock.clone(),
            queues: queues.clone(),
            outbox: outbox.clone(),
            health: health.clone(),
            prepare: Prepared::new,
            troubles: Default::default(),
        };
        let run = |router: Arc<RouterLoop>, stop| async move { router.run(stop).await };
        (tasks.routing).push(supervise(
            "router",
            &health,
            &stop.routing,
            Arc::new(router),
            run,
        ));
        let parts = Parts {
            channels: channels.clone().into(),
            policy: policy.clone(),
            queues: Live::new(config.queues.keys().cloned().collect()),
            brands: Live::new(settings::brands(&config)),
            facts: Live::new(settings::channel_facts(&config, &channels)),
            kept: Live::new(settings::retention(&config)),
            targets,
            config: Live::new(config),
        };
        let config = parts.config.now();
        let set = Arc::new(ChannelSet::new(Around {
            store: shared.clone(),
            intake: intake.clone(),
            clock: clock.clone(),
            health: health.clone(),
            queues: queues.clone(),
            outbox: outbox.clone(),
            blobs: blobs.clone(),
            ids: keys.ids.clone(),
            reply_tokens: keys.reply_tokens.clone(),
            sources: sources.clone(),
            accepting: stop.accepting.clone(),
            sending: stop.sending.clone(),
        }));
        set.run(&channels);
        health.set(reload::NAME, State::Ready);
        let reload = Arc::new(Reload {
            parts: parts.clone(),
            registrations: registrations.to_vec(),
            clock: clock.clone(),
            http,
            credentials,
            keys: keys.clone(),
            store: shared.clone(),
            health: health.clone(),
            waiting: queues.clone(),
            set: set.clone(),
            secrets: secrets.into(),
            source: std::sync::OnceLock::new(),
            busy: tokio::sync::Mutex::default(),
        });

        let fetcher = Fetcher::new(
            shared.clone(),
            parts.channels.clone(),
            blobs.clone(),
            clock.clone(),
            outbox.clone(),
        );
        let fetching = health.clone();
        let run = move |fetcher: Arc<Fetcher>, stop| {
            fetching.set(FETCHER, State::Ready);
            async move { fetcher.run(stop).await }
        };
        (tasks.sending).push(supervise(
            FETCHER,
            &health,
            &stop.sending,
            Arc::new(fetcher),
            run,
        ));

        let timers = Timers {
            store: shared.clone(),
            clock: clock.clone(),
            queues: queues.clone(),
            health: health.clone(),
        };
        let run = |timers: Arc<Timers>, stop| async move { timers.run(stop).await };
        (tasks.routing).push(supervise(
            timers::NAME,
            &health,
            &stop.routing,
            Arc::new(timers),
            run,
        ));

        let address = config.server.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| StartError::Listen { address, error })?;
        let address = listener
            .local_addr()
            .map_err(|error| StartError::Listen { address, error })?;
        let hooks = Arc::new(Webhooks {
            channels: parts.channels.clone(),
            intake: intake.clone(),
        });
        let instance = uuid::Uuid::now_v7().as_simple().to_string();
        let state = ApiState {
            store: shared.clone(),
            ids: keys.ids.clone(),
            clock: clock.clone(),
            queues: queues.clone(),
            outbox: outbox.clone(),
            hooks: hooks.clone(),
            health: health.clone(),
            metrics: metrics.clone(),
            body_bytes_max: usize::try_from(config.server.body_bytes_max).unwrap_or(usize::MAX),
            hooks_bytes_max: HOOKS_BYTES_MAX
                .max(usize::try_from(config.server.body_bytes_max).unwrap_or(usize::MAX)),
            cors_origins: (config.server.cors_origins.iter())
                .map(|origin| origin.as_str().to_owned())
                .collect(),
            upload_bytes_max: config.server.upload_bytes_max,
            links: FileLinks::new(
                keys.links.clone(),
                config.server.public_url.as_ref().map(|url| url.as_str()),
            ),
            streams_max: api::STREAMS_MAX,
            blobs: blobs.clone(),
            known_queues: parts.queues.clone(),
            known_brands: parts.brands.clone(),
            channels: parts.facts.clone(),
            schema_version: crate::store::sqlite::SCHEMA_VERSION,
            instance: instance.clone(),
            stop: stop.accepting.clone(),
            deadlines: Deadlines::default(),
        };
        let acceptor = match certificates {
            Some(certificates) => {
                let acceptor = certificates.acceptor();
                let stop = stop.accepting.clone();
                let following = listener::follow(certificates, &clock, &health, stop);
                tasks.accepting.push(following);
                let failed = |error| StartError::Other(format!("setting up TLS: {error}"));
                Some(acceptor.map_err(failed)?)
            }
            None => None,
        };
        tasks
            .accepting
            .push(tokio::spawn(api::serve(listener, acceptor, state)));
        let control = control::Control {
            store: shared.clone(),
            channels: parts.channels.clone(),
            policy: policy.clone(),
            ids: keys.ids.clone(),
            clock: clock.clone(),
            queues: queues.clone(),
            outbox: outbox.clone(),
            sources: sources.clone(),
            sending: true,
            importer: Some(Importer {
                channels: parts.channels.clone(),
                intake: intake.clone(),
                bus: bus.clone(),
                store: shared.clone(),
                clock: clock.clone(),
                kept: parts.kept.clone(),
                under_way: UnderWay::default(),
            }),
            about: Some(control::status::About {
                instance,
                address,
                health: health.clone(),
            }),
            tests: Some(ChannelTests {
                config: parts.config.clone(),
                channels: parts.channels.clone(),
                hooks,
                store: shared.clone(),
                clock: clock.clone(),
                health: health.clone(),
                ids: keys.ids.clone(),
                reply_tokens: keys.reply_tokens.clone(),
            }),
            reload: Some(reload.clone()),
        };
        tasks.accepting.push(control::serve(
            &data_dir.path,
            control,
            stop.accepting.clone(),
        )?);
        let indexing = Indexing {
            store: shared.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            health: health.clone(),
        };
        let run = |indexing: Arc<Indexing>, stop| async move { indexing.run(stop).await };
        (tasks.sending).push(supervise(
            INDEXING,
            &health,
            &stop.sending,
            Arc::new(indexing),
            run,
        ));
        let keeping = Arc::new(Housekeeping {
            store: shared.clone(),
            bus: bus.clone(),
            intake: intake.clone(),
            blobs,
            metrics,
            clock: clock.clone(),
            health: health.clone(),
        });
        let run = |all: Arc<Housekeeping>, stop| async move { all.run(stop).await };
        let files = keeping.clone();
        (tasks.sending).push(supervise(KEEPING, &health, &stop.sending, keeping, run));
        let run = |all: Arc<Housekeeping>, stop| async move { all.sweep_files(stop).await };
        (tasks.sending).push(supervise(FILES, &health, &stop.sending, files, run));
        let alerting = Alerting {
            store: shared.clone(),
            intake: intake.clone(),
            clock: clock.clone(),
            health: health.clone(),
            config: parts.config.clone(),
            channels: parts.channels.clone(),
            targets: parts.targets.clone(),
            data_dir: data_dir.path.clone(),
        };
        let run = |alerting: Arc<Alerting>, stop| async move { alerting.run(stop).await };
        (tasks.sending).push(supervise(
            alerting::NAME,
            &health,
            &stop.sending,
            Arc::new(alerting),
            run,
        ));
        let forgetting = Forgetting {
            store: shared,
            clock,
            health: health.clone(),
            keep: parts.kept.clone(),
            queues: queues.clone(),
        };
        let run = |forgetting: Arc<Forgetting>, stop| async move { forgetting.run(stop).await };
        (tasks.sending).push(supervise(
            forgetting::NAME,
            &health,
            &stop.sending,
            Arc::new(forgetting),
            run,
        ));
        info!(%address, data_dir = %data_dir.path.display(), "switchboard listens on {address}");
        Ok(Self {
            address,
            store,
            bus,
            intake,
            channels,
            health,
            reload,
            set,
            stop,
            tasks,
            _data_dir: data_dir,
        })
    }

    /// From where its configuration is read again.
    pub fn reloads_from(&self, source: Source) {
        if self.reload.source.set(source).is_err() {
            warn!("where the configuration is read from again was said twice; the first stays");
        }
    }

    /// Ends in order, within [`SHUTDOWN_MAX`]: accept nothing, decide nothing new, finish sends.
    pub async fn stop(self) {
        self.stop.accepting.cancel();
        finish("accepting", self.tasks.accepting, REQUESTS_FINISH_MAX).await;
        let ended = tokio::time::timeout(REQUESTS_FINISH_MAX, self.set.sources_ended());
        if ended.await.is_err() {
            warn!("channels' sources did not end within {REQUESTS_FINISH_MAX:?}, cut off");
        }
        self.stop.routing.cancel();
        finish("routing", self.tasks.routing, REQUESTS_FINISH_MAX).await;
        let left = tokio::time::timeout(REQUESTS_FINISH_MAX, self.bus.leave()).await;
        if left.is_err() {
            warn!(
                "the bus was not left within {REQUESTS_FINISH_MAX:?}: others take over once it is missed"
            );
        }
        self.stop.sending.cancel();
        let lanes = tokio::time::timeout(SENDS_FINISH_MAX, self.set.lanes_ended());
        let others = finish("sending", self.tasks.sending, SENDS_FINISH_MAX);
        if let (Err(_), ()) = futures::join!(lanes, others) {
            warn!("lanes did not end within {SENDS_FINISH_MAX:?}, cut off");
        }
        info!("switchboard stopped");
    }
}

async fn finish(what: &str, tasks: Vec<JoinHandle<()>>, within: Duration) {
    let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
    if tokio::time::timeout(within, futures::future::join_all(tasks))
        .await
        .is_err()
    {
        warn!("{what} did not end within {within:?}, cut off");
        for task in aborts {
            task.abort();
        }
    }
}
