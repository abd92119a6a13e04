//! Sweeps the rows away that live for moments: events until they have a number, and what waits for an agent. Each step of
//! the sequencer and each claim would go over those that are gone, and the server's own sweep comes once a minute at
//! most. While somebody reads the whole database (a backup), nothing can be swept: then it is tried the less often.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tracing::debug;

use super::pool::Setting;

/// Events after which it is time again.
const EVENTS: i64 = 2_000;
/// Somebody else who sweeps is not waited for.
const SWEEP: &str =
    "VACUUM (SKIP_LOCKED, TRUNCATE FALSE, PARALLEL 0) event_new, departure_new, waiting";
/// Between two sweeps, and as part of the time: the longer one took, the later comes the next.
const APART: Duration = Duration::from_secs(1);
const REST: u32 = 20;
/// How long one may take: as long as a backup keeps everything there, that grows.
const SWEEP_MAX: Duration = Duration::from_secs(600);

/// The thread; it ends with this.
pub struct Sweeper {
    _ended: Sender<()>,
}

impl Sweeper {
    /// `unswept` counts what was numbered.
    #[expect(
        clippy::disallowed_methods,
        reason = "it rests by how long the server took, whatever a simulator says"
    )]
    pub fn start(setting: Setting, unswept: Arc<AtomicI64>) -> std::io::Result<Self> {
        let (ended, ends) = channel();
        std::thread::Builder::new()
            .name("store-sweeper".to_owned())
            .spawn(move || {
                let mut rest = APART;
                while ends.recv_timeout(rest) == Err(RecvTimeoutError::Timeout) {
                    rest = APART;
                    if unswept.load(Ordering::Relaxed) < EVENTS {
                        continue;
                    }
                    unswept.store(0, Ordering::Relaxed);
                    let begun = Instant::now();
                    let swept = setting
                        .connect()
                        .and_then(|session| session.batch_within(SWEEP_MAX, SWEEP));
                    if let Err(error) = swept {
                        debug!(%error, "sweeping rows away failed, trying again later: {error}");
                    }
                    rest = APART.max(begun.elapsed() * REST);
                }
            })?;
        Ok(Self { _ended: ended })
    }
}
