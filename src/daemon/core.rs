//! What every part works with, whichever of them this process runs.

use std::sync::Arc;

use connector_api::{CancellationToken, Clock};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinHandle;

use crate::blobs::Blobs;
use crate::bus::Bus;
use crate::config::{Config, Part};
use crate::health::{Health, State};
use crate::intake::Intake;
use crate::store::Store;
use crate::wake::Wakes;

use super::DataDir;
use super::elsewhere::Elsewhere;
use super::leased::{Held, Leases};
use super::processes::ProcessRows;
use super::reconcile::Reconciler;
use super::reload::Parts;
use super::settings::Keys;
use super::shutdown::{Stop, Tasks};
use super::supervise::{supervise, supervised};

/// The opened installation, and what goes between the parts.
pub struct Core {
    pub data_dir: DataDir,
    /// Whether other processes work with the store, too.
    pub is_shared: bool,
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub blobs: Blobs,
    pub intake: Arc<Intake>,
    pub keys: Arc<Keys>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
    pub metrics: PrometheusHandle,
    pub leases: Leases,
    /// Rung under a queue's id when it has more waiting.
    pub queues: Arc<Wakes>,
    /// Rung under a channel's id when its outbox has something.
    pub outbox: Arc<Wakes>,
    /// Rung under a channel's id when its source should try again at once.
    pub sources: Arc<Wakes>,
    pub processes: Arc<ProcessRows>,
    /// What a reload replaces.
    pub parts: Parts,
    pub elsewhere: Arc<Elsewhere>,
    /// As `/version` shows it.
    pub instance: String,
    pub reconciler: Arc<Reconciler>,
    pub stop: Stop,
}

impl Core {
    pub fn config(&self) -> Arc<Config> {
        self.parts.config.now()
    }

    /// Whether this process runs the part.
    pub fn runs(&self, part: Part) -> bool {
        self.config().run.parts.contains(&part)
    }

    /// Work that goes on in every process that runs its part.
    pub fn everywhere<P, F, R>(
        &self,
        tasks: &mut Tasks,
        when: When,
        name: &str,
        part: impl Into<Arc<P>>,
        run: F,
    ) where
        P: Send + Sync + 'static,
        F: Fn(Arc<P>, CancellationToken) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let (stop, list) = when.of(&self.stop, tasks);
        list.push(supervise(name, &self.health, stop, part.into(), run));
    }

    /// Work that one process at a time does.
    pub fn once<P, F, R>(&self, tasks: &mut Tasks, when: When, name: &'static str, part: P, run: F)
    where
        P: Send + Sync + 'static,
        F: Fn(Arc<P>, CancellationToken) -> R + Send + Sync + Clone + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let (stop, list) = when.of(&self.stop, tasks);
        let (leases, health) = (self.leases.clone(), self.health.clone());
        let (stop, part) = (stop.clone(), Arc::new(part));
        list.push(tokio::spawn(async move {
            let standby = || health.set(name, State::Standby);
            let work = |_: Held, stop| {
                let (part, run) = (part.clone(), run.clone());
                supervised(name.to_owned(), health.clone(), stop, move |stop| {
                    run(part.clone(), stop)
                })
            };
            leases.while_held(name, stop, standby, work).await;
        }));
    }
}

/// When in a shutdown something ends.
#[derive(Debug, Clone, Copy)]
pub enum When {
    Accepting,
    Routing,
    Sending,
}

impl When {
    fn of<'a>(
        self,
        stop: &'a Stop,
        tasks: &'a mut Tasks,
    ) -> (&'a CancellationToken, &'a mut Vec<JoinHandle<()>>) {
        match self {
            Self::Accepting => (&stop.accepting, &mut tasks.accepting),
            Self::Routing => (&stop.routing, &mut tasks.routing),
            Self::Sending => (&stop.sending, &mut tasks.sending),
        }
    }
}
