//! How a daemon ends: nothing new is accepted, what is under way is finished, then the store closes.

use std::time::Duration;

use connector_api::CancellationToken;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::bus::Bus;

use super::channels::ChannelSet;

/// All of a shutdown, from the signal to the closed store.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(9);
/// How long sends under way may still take.
const SENDS_FINISH_MAX: Duration = Duration::from_secs(5);
const REQUESTS_FINISH_MAX: Duration = Duration::from_secs(2);

/// What ends first, second and last.
#[derive(Clone, Default)]
pub struct Stop {
    pub accepting: CancellationToken,
    pub routing: CancellationToken,
    pub sending: CancellationToken,
}

/// What runs until then.
#[derive(Default)]
pub struct Tasks {
    pub accepting: Vec<JoinHandle<()>>,
    pub routing: Vec<JoinHandle<()>>,
    pub sending: Vec<JoinHandle<()>>,
}

/// Ends in order, within [`SHUTDOWN_MAX`]: accept nothing, decide nothing new, finish sends.
pub async fn stop(stop: Stop, tasks: Tasks, set: &ChannelSet, bus: &dyn Bus) {
    stop.accepting.cancel();
    finish("accepting", tasks.accepting, REQUESTS_FINISH_MAX).await;
    let ended = tokio::time::timeout(REQUESTS_FINISH_MAX, set.sources_ended());
    if ended.await.is_err() {
        warn!("channels' sources did not end within {REQUESTS_FINISH_MAX:?}, cut off");
    }
    stop.routing.cancel();
    finish("routing", tasks.routing, REQUESTS_FINISH_MAX).await;
    let left = tokio::time::timeout(REQUESTS_FINISH_MAX, bus.leave()).await;
    if left.is_err() {
        warn!(
            "the bus was not left within {REQUESTS_FINISH_MAX:?}: others take over once it is missed"
        );
    }
    stop.sending.cancel();
    let lanes = tokio::time::timeout(SENDS_FINISH_MAX, set.lanes_ended());
    let others = finish("sending", tasks.sending, SENDS_FINISH_MAX);
    if let (Err(_), ()) = futures::join!(lanes, others) {
        warn!("lanes did not end within {SENDS_FINISH_MAX:?}, cut off");
    }
    info!("switchboard stopped");
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
