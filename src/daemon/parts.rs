//! The parts of the daemon, each of which a process runs or leaves to others (`run.parts`), and what goes on
//! beside them.

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::api::tls::Certificates;
use crate::api::{self, ApiState, Deadlines, FileLinks, Served};
use crate::config::Part;
use crate::health::State;
use crate::inbound::Webhooks;
use crate::inbound::attachments::Fetcher;
use crate::router::Prepared;

use super::StartError;
use super::accepting::{self, Accepting};
use super::alerting::{self, Alerting};
use super::bells::{self, Bells};
use super::bus_state;
use super::channel_test::ChannelTests;
use super::control;
use super::core::{Core, When};
use super::erasing::{self, Erasing};
#[cfg(feature = "postgres")]
use super::files::{self, BucketState};
use super::forgetting::{self, Forgetting};
use super::housekeeping::{FILES, Housekeeping, KEEPING};
use super::import::{Importer, UnderWay};
use super::indexing::{INDEXING, Indexing};
use super::listener;
use super::processes::{self, ProcessRows};
use super::relays;
use super::reload::{self, Reload};
use super::route::RouterLoop;
use super::shutdown::Tasks;
use super::store_state::{self, StoreState};
use super::timers::{self, Timers};
use super::watch::ROUTER;

/// Bytes of webhook requests in memory at once, of all together.
const HOOKS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Under which name the fetcher's state is kept; it makes nothing unready.
const FETCHER: &str = "work:attachments";

/// Takes what customers write. The channels' own sources run beside, see [`super::channels`].
pub fn inbound(core: &Core, tasks: &mut Tasks) {
    core.health.set(accepting::NAME, State::Starting);
    let accepting = Accepting {
        intake: core.intake.clone(),
        bus: core.bus.clone(),
        clock: core.clock.clone(),
        health: core.health.clone(),
    };
    core.everywhere(
        tasks,
        When::Accepting,
        accepting::NAME,
        accepting,
        |all, stop| async move {
            all.run(stop).await;
        },
    );
    let fetcher = Fetcher::new(
        core.store.clone(),
        core.parts.channels.clone(),
        core.blobs.clone(),
        core.clock.clone(),
        core.outbox.clone(),
    );
    let health = core.health.clone();
    core.everywhere(
        tasks,
        When::Sending,
        FETCHER,
        fetcher,
        move |fetcher, stop| {
            health.set(FETCHER, State::Ready);
            async move { fetcher.run(stop).await }
        },
    );
}

/// Decides what was accepted.
pub fn router(core: &Core, tasks: &mut Tasks) {
    core.health.set(ROUTER, State::Starting);
    let router = RouterLoop {
        bus: core.bus.clone(),
        store: core.store.clone(),
        policy: core.parts.policy.clone(),
        elsewhere: core.elsewhere.clone(),
        clock: core.clock.clone(),
        queues: core.queues.clone(),
        outbox: core.outbox.clone(),
        health: core.health.clone(),
        prepare: Prepared::new,
        troubles: Default::default(),
    };
    core.everywhere(
        tasks,
        When::Routing,
        ROUTER,
        router,
        |router, stop| async move {
            router.run(stop).await;
        },
    );
    let indexing = Indexing {
        store: core.store.clone(),
        bus: core.bus.clone(),
        clock: core.clock.clone(),
        health: core.health.clone(),
    };
    core.once(
        tasks,
        When::Sending,
        INDEXING,
        indexing,
        |indexing, stop| async move {
            indexing.run(stop).await;
        },
    );
}

/// Runs the clocks, keeps what is kept no longer than it may be, and tells operators and whoever reads the bus.
pub fn dispatch(core: &Core, tasks: &mut Tasks) {
    let timers = Timers {
        store: core.store.clone(),
        clock: core.clock.clone(),
        queues: core.queues.clone(),
        health: core.health.clone(),
    };
    core.once(
        tasks,
        When::Routing,
        timers::NAME,
        timers,
        |timers, stop| async move {
            timers.run(stop).await;
        },
    );
    let forgetting = Forgetting {
        store: core.store.clone(),
        clock: core.clock.clone(),
        health: core.health.clone(),
        elsewhere: core.elsewhere.clone(),
        keep: core.parts.kept.clone(),
        queues: core.queues.clone(),
    };
    core.once(
        tasks,
        When::Sending,
        forgetting::NAME,
        forgetting,
        |all, stop| async move {
            all.run(stop).await;
        },
    );
    let erasing = Erasing {
        store: core.store.clone(),
        bus: core.bus.clone(),
        blobs: core.blobs.clone(),
        clock: core.clock.clone(),
        health: core.health.clone(),
        keep: core.parts.kept.clone(),
        data_dir: (!core.is_shared).then(|| core.data_dir.path.clone()),
    };
    core.once(
        tasks,
        When::Routing,
        erasing::NAME,
        erasing,
        |all, stop| async move {
            all.run(stop).await;
        },
    );
    core.once(
        tasks,
        When::Sending,
        FILES,
        housekeeping(core),
        |all, stop| async move {
            all.sweep_files(stop).await;
        },
    );
    let alerting = Alerting {
        store: core.store.clone(),
        processes: core.processes.clone(),
        clock: core.clock.clone(),
        health: core.health.clone(),
        config: core.parts.config.clone(),
        channels: core.parts.channels.clone(),
        targets: core.parts.targets.clone(),
        data_dir: core.data_dir.path.clone(),
    };
    core.once(
        tasks,
        When::Sending,
        alerting::NAME,
        alerting,
        |alerting, stop| async move {
            alerting.run(stop).await;
        },
    );
    relays::start(core, tasks);
}

/// What every process does, whatever it runs.
pub fn beside(core: &Core, tasks: &mut Tasks) {
    let following = bus_state::follow(
        core.bus.clone(),
        core.health.clone(),
        core.stop.routing.clone(),
    );
    tasks.routing.push(tokio::spawn(following));
    let changing = bus_state::follow_change(
        core.bus.clone(),
        core.health.clone(),
        core.stop.routing.clone(),
    );
    tasks.routing.push(tokio::spawn(changing));
    core.everywhere(
        tasks,
        When::Sending,
        KEEPING,
        housekeeping(core),
        |all, stop| async move {
            all.run(stop).await;
        },
    );
    core.health.set(reload::NAME, State::Ready);
    #[cfg(feature = "postgres")]
    if let Some(bucket) = core.blobs.bucket() {
        let state = BucketState {
            store: core.store.clone(),
            bucket: bucket.clone(),
            health: core.health.clone(),
        };
        core.everywhere(
            tasks,
            When::Sending,
            files::NAME,
            state,
            |state, stop| async move {
                state.run(stop).await;
            },
        );
    }
    if !core.is_shared {
        core.everywhere(
            tasks,
            When::Sending,
            store_state::NAME,
            core.health.clone(),
            store_state::tell_damage,
        );
        return;
    }
    let state = StoreState {
        store: core.store.clone(),
        clock: core.clock.clone(),
        health: core.health.clone(),
    };
    core.everywhere(
        tasks,
        When::Sending,
        store_state::NAME,
        state,
        |state, stop| async move {
            state.run(stop).await;
        },
    );
    let all = core.processes.clone();
    core.everywhere(
        tasks,
        When::Sending,
        processes::NAME,
        all,
        |all: Arc<ProcessRows>, stop| async move {
            all.run(stop).await;
        },
    );
    let bells = Bells {
        store: core.store.clone(),
        channels: core.parts.channels.clone(),
        queues: core.queues.clone(),
        outbox: core.outbox.clone(),
        health: core.health.clone(),
    };
    core.everywhere(
        tasks,
        When::Sending,
        bells::NAME,
        bells,
        |bells, stop| async move {
            bells.run(stop).await;
        },
    );
}

fn housekeeping(core: &Core) -> Housekeeping {
    Housekeeping {
        store: core.store.clone(),
        bus: core.bus.clone(),
        intake: core.intake.clone(),
        blobs: core.blobs.clone(),
        metrics: core.metrics.clone(),
        clock: core.clock.clone(),
        health: core.health.clone(),
    }
}

/// Answers over HTTP: operators in every process, helpdesks where it runs `api`, providers where it runs
/// `inbound`.
pub fn listen(
    core: &Core,
    tasks: &mut Tasks,
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    hooks: Arc<Webhooks>,
) -> Result<(), StartError> {
    let server = &core.config().server;
    let body_bytes_max = usize::try_from(server.body_bytes_max).unwrap_or(usize::MAX);
    let public_url = server.public_url.as_ref().map(|url| url.as_str());
    let state = ApiState {
        store: core.store.clone(),
        ids: core.keys.ids.clone(),
        clock: core.clock.clone(),
        queues: core.queues.clone(),
        outbox: core.outbox.clone(),
        hooks,
        health: core.health.clone(),
        reconciling: core.reconciler.clone(),
        metrics: core.metrics.clone(),
        served: Served {
            api: core.runs(Part::Api),
            hooks: core.runs(Part::Inbound),
        },
        body_bytes_max,
        hooks_bytes_max: HOOKS_BYTES_MAX.max(body_bytes_max),
        cors_origins: (server.cors_origins.iter())
            .map(|origin| origin.as_str().to_owned())
            .collect(),
        upload_bytes_max: server.upload_bytes_max,
        links: FileLinks::new(core.keys.links.clone(), public_url),
        streams_max: api::STREAMS_MAX,
        blobs: core.blobs.clone(),
        known_queues: core.parts.queues.clone(),
        known_brands: core.parts.brands.clone(),
        channels: core.parts.facts.clone(),
        schema_version: core.store.schema_version(),
        instance: core.instance.clone(),
        stop: core.stop.accepting.clone(),
        deadlines: Deadlines::default(),
    };
    let stop = core.stop.accepting.clone();
    let acceptor = certificates.map(|certificates| {
        let acceptor = certificates.acceptor();
        let following = listener::follow(certificates, &core.clock, &core.health, stop);
        tasks.accepting.push(following);
        acceptor.map_err(|error| StartError::Other(format!("setting up TLS: {error}")))
    });
    let acceptor = acceptor.transpose()?;
    tasks
        .accepting
        .push(tokio::spawn(api::serve(listener, acceptor, state)));
    Ok(())
}

/// Answers commands on the data directory's socket.
pub fn control(
    core: &Core,
    tasks: &mut Tasks,
    address: std::net::SocketAddr,
    hooks: Arc<Webhooks>,
    reload: Arc<Reload>,
) -> Result<(), StartError> {
    let control = control::Control {
        reconciler: core.reconciler.clone(),
        store: core.store.clone(),
        channels: core.parts.channels.clone(),
        policy: core.parts.policy.clone(),
        blobs: core.blobs.clone(),
        ids: core.keys.ids.clone(),
        clock: core.clock.clone(),
        queues: core.queues.clone(),
        outbox: core.outbox.clone(),
        sources: core.sources.clone(),
        sending: true,
        importer: Some(Importer {
            channels: core.parts.channels.clone(),
            intake: core.intake.clone(),
            bus: core.bus.clone(),
            store: core.store.clone(),
            clock: core.clock.clone(),
            kept: core.parts.kept.clone(),
            under_way: UnderWay::default(),
        }),
        about: Some(control::status::About {
            instance: core.instance.clone(),
            address,
            health: core.health.clone(),
        }),
        tests: Some(ChannelTests {
            config: core.parts.config.clone(),
            channels: core.parts.channels.clone(),
            hooks,
            store: core.store.clone(),
            clock: core.clock.clone(),
            health: core.health.clone(),
            ids: core.keys.ids.clone(),
            reply_tokens: core.keys.reply_tokens.clone(),
        }),
        reload: Some(reload),
    };
    let stop = core.stop.accepting.clone();
    tasks
        .accepting
        .push(control::serve(&core.data_dir.path, control, stop)?);
    Ok(())
}
