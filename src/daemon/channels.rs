//! The channels that run: a task for each keeps its source and its lane going, and puts others in
//! their place when the configuration gives it another one. Starting and reloading are the same
//! code; a channel that stays the same is not touched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connector_api::{CancellationToken, ChannelId, Clock};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::blobs::Blobs;
use crate::channels::{Channel, Channels};
use crate::clock::micros;
use crate::health::{Health, State};
use crate::ids::IdCodec;
use crate::inbound;
use crate::intake::Intake;
use crate::outbound::{self, Files, Lane};
use crate::router::reply_token::ReplyTokens;
use crate::store::Store;
use crate::wake::Wakes;

use super::leased::{Held, Leases};
use super::supervise::supervised;

/// How long the source of a channel that goes may take to end.
const SOURCE_END_MAX: Duration = Duration::from_secs(2);
/// How long its lane may take to finish what it sends: longer than a mail server may.
const LANE_END_MAX: Duration = Duration::from_secs(60);

/// What every channel's source and lane work with.
pub struct Around {
    pub store: Arc<dyn Store>,
    pub intake: Arc<Intake>,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
    pub leases: Leases,
    /// Whether this process reads from channels, and whether it sends over them.
    pub reads: bool,
    pub sends: bool,
    pub queues: Arc<Wakes>,
    pub outbox: Arc<Wakes>,
    pub blobs: Blobs,
    pub ids: IdCodec,
    pub reply_tokens: ReplyTokens,
    /// Rung under a channel's id when its source should try again at once.
    pub sources: Arc<Wakes>,
    /// Ends all sources, and later all lanes.
    pub accepting: CancellationToken,
    pub sending: CancellationToken,
}

/// The running channels.
pub struct ChannelSet {
    around: Arc<Around>,
    wanted: Mutex<BTreeMap<ChannelId, watch::Sender<Option<Arc<Channel>>>>>,
    sources: TaskTracker,
    keepers: TaskTracker,
}

impl ChannelSet {
    pub fn new(around: Around) -> Self {
        Self {
            around: Arc::new(around),
            wanted: Mutex::default(),
            sources: TaskTracker::new(),
            keepers: TaskTracker::new(),
        }
    }

    /// From now on these channels run and no others. What goes ends in its own time: first it hears
    /// nothing more, then it finishes what it sends; what takes its place starts after that.
    pub fn run(&self, channels: &Channels) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, channel) in channels.iter() {
            let same = |now: &Option<Arc<Channel>>| {
                now.as_ref().is_some_and(|now| Arc::ptr_eq(now, channel))
            };
            match wanted.get(id) {
                Some(known) if same(&known.borrow()) => {}
                // A keeper that has ended meanwhile takes nothing any more.
                Some(known) if known.send(Some(channel.clone())).is_ok() => {}
                _ => {
                    let (sender, receiver) = watch::channel(Some(channel.clone()));
                    wanted.insert(id.clone(), sender);
                    let (around, sources) = (self.around.clone(), self.sources.clone());
                    self.keepers.spawn(keep(around, sources, receiver));
                }
            }
        }
        wanted.retain(|id, known| {
            let stays = channels.contains_key(id);
            if !stays {
                known.send_replace(None);
            }
            stays
        });
    }

    /// Waits until all sources have ended, once `accepting` is cancelled.
    pub async fn sources_ended(&self) {
        self.sources.close();
        self.sources.wait().await;
    }

    /// Waits until all lanes have, once `sending` is.
    pub async fn lanes_ended(&self) {
        self.keepers.close();
        self.keepers.wait().await;
    }
}

/// Runs what is wanted of one channel, until nothing is.
async fn keep(
    around: Arc<Around>,
    sources: TaskTracker,
    mut wanted: watch::Receiver<Option<Arc<Channel>>>,
) {
    let mut gone: Option<Arc<Channel>> = None;
    loop {
        let Some(channel) = wanted.borrow_and_update().clone() else {
            break;
        };
        let accepting = around.accepting.child_token();
        let sending = around.sending.child_token();
        let source = (around.reads).then(|| sources.spawn(source(&around, &channel, &accepting)));
        let lane = lane(&around, &channel, &sending);
        tokio::select! {
            // An error: the set is gone, and so is the daemon.
            changed = wanted.changed() => drop(changed),
            () = around.sending.cancelled() => {}
        }
        accepting.cancel();
        if let Some(source) = source {
            end(source, SOURCE_END_MAX).await;
        }
        sending.cancel();
        if let Some(lane) = lane
            && !end(lane, LANE_END_MAX).await
        {
            recover(&around, &channel).await;
        }
        if around.sending.is_cancelled() {
            return;
        }
        gone = Some(channel);
    }
    if let Some(channel) = gone {
        around.health.remove(&format!("channel:{}", channel.id));
        around.health.remove(&outbound::health_name(&channel.id));
    }
}

/// The channel's source, which one process at a time runs where it is one that reads by itself.
fn source(
    around: &Arc<Around>,
    channel: &Arc<Channel>,
    stop: &CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (around, channel, stop) = (around.clone(), channel.clone(), stop.clone());
    async move {
        let run = |stop| {
            inbound::run_source(
                channel.clone(),
                around.intake.clone(),
                around.store.clone(),
                around.health.clone(),
                around.sources.bell(channel.id.as_str()),
                stop,
            )
        };
        if inbound::is_pushed_only(&channel) {
            return run(stop).await;
        }
        let name = format!("channel:{}", channel.id);
        let standby = || around.health.set(&name, State::Standby);
        let work = |_: Held, stop| run(stop);
        around.leases.while_held(&name, stop, standby, work).await;
    }
}

fn lane(
    around: &Arc<Around>,
    channel: &Arc<Channel>,
    stop: &CancellationToken,
) -> Option<JoinHandle<()>> {
    if !around.sends || channel.connector.sender().is_none() {
        return None;
    }
    let (around, channel, stop) = (around.clone(), channel.clone(), stop.clone());
    Some(tokio::spawn(async move {
        let name = outbound::health_name(&channel.id);
        let standby = || around.health.set(&name, State::Standby);
        let work = |held: Held, stop| {
            let lane = Arc::new(Lane {
                channel: channel.clone(),
                store: around.store.clone(),
                clock: around.clock.clone(),
                wakes: around.outbox.clone(),
                queues: around.queues.clone(),
                health: around.health.clone(),
                ids: around.ids.clone(),
                files: Files::new(around.store.clone(), around.blobs.clone()),
                reply_tokens: around.reply_tokens.clone(),
                ours: Box::new(move || held.holds()),
            });
            let run = move |stop| {
                let lane = lane.clone();
                async move { lane.run(stop).await }
            };
            supervised(name.clone(), around.health.clone(), stop, run)
        };
        around.leases.while_held(&name, stop, standby, work).await;
    }))
}

/// Waits for a task; says whether it ended by itself, else cuts it off.
async fn end(mut task: JoinHandle<()>, within: Duration) -> bool {
    if tokio::time::timeout(within, &mut task).await.is_ok() {
        return true;
    }
    task.abort();
    drop(task.await);
    false
}

/// What a lane that was cut off was sending may have left: as after a crash.
async fn recover(around: &Around, channel: &Channel) {
    let id = &channel.id;
    warn!(channel.id = %id, "the lane of {id} did not finish what it was sending");
    let now = micros(around.clock.now());
    let idempotent = channel.capabilities.send_idempotent;
    match around.store.recover_lane(id, idempotent, now).await {
        Ok(rings) => {
            for queue in &rings.queues {
                around.queues.ring(queue.as_str());
            }
        }
        Err(error) => warn!(channel.id = %id, %error, "settling what it was sending failed"),
    }
}
