//! Tells the service manager how the daemon is, and that its router moves: a process whose router stands still in silence is
//! started again. A router that says what is wrong (Kafka is down, the database restarts) is not still: it goes on by itself
//! once that is over, and a new process could do no better.

use std::sync::Arc;
use std::time::Duration;

use connector_api::CancellationToken;
use tracing::error;

use crate::bus::Bus;
use crate::health::{Health, State, is_core};
use crate::words::counted;

use super::notify::Manager;
use super::{bus_state, store_state};

/// How old a status may be.
const LOOKS_EVERY: Duration = Duration::from_secs(5);
/// How long a part may leave open how it is before the manager is told that the start is over.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);
/// Looks at least, within the time that the manager waits: one may be late.
const LOOKS_PER_WATCHDOG: u32 = 4;
/// Under which name the router's state and its work are kept.
pub const ROUTER: &str = "router";

pub struct Watch {
    pub manager: Arc<Manager>,
    pub bus: Arc<dyn Bus>,
    pub health: Arc<Health>,
    seen: Option<Seen>,
    told: String,
    still: bool,
}

/// The router at one look.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// Records accepted and not decided.
    waiting: i64,
    /// When it last decided any, in UTC microseconds.
    worked: Option<i64>,
    /// It, the bus or the store says what is wrong.
    trouble: bool,
}

fn is_unwell(state: &State) -> bool {
    *state == State::Starting || state.reason().is_some()
}

/// Whether the router decides, has nothing to decide, or says why it does not.
fn moves(before: &Seen, now: &Seen) -> bool {
    let idle = before.waiting == 0 || now.waiting == 0;
    idle || now.trouble || now.worked != before.worked
}

impl Watch {
    pub fn new(manager: Arc<Manager>, bus: Arc<dyn Bus>, health: Arc<Health>) -> Self {
        Self {
            manager,
            bus,
            health,
            seen: None,
            told: String::new(),
            still: false,
        }
    }

    /// Tells that the start is over, then looks now and then, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = begin(&self.manager, &self.health) => {}
        }
        let watchdog = self.manager.watchdog();
        let often = watchdog.map(|watchdog| watchdog / LOOKS_PER_WATCHDOG);
        let every = often.map_or(LOOKS_EVERY, |often| often.min(LOOKS_EVERY));
        loop {
            self.look();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    /// Tells what is other than at the last look, and that the router moves, if it does.
    pub fn look(&mut self) {
        let now = self.see();
        let before = self.seen.replace(now.clone());
        let still = !before.is_none_or(|before| moves(&before, &now));
        if still && !self.still {
            error!(
                waiting = now.waiting,
                "{}; a service manager that watches starts this process again",
                standstill(now.waiting)
            );
        }
        self.still = still;
        let status = match still {
            true => standstill(now.waiting),
            false => self.status(),
        };
        if status != self.told {
            self.manager.status(&status);
            self.told = status;
        }
        if !still {
            self.manager.alive();
        }
    }

    fn see(&self) -> Seen {
        let states = self.health.snapshot();
        let unwell = |name: &str| states.get(name).is_some_and(is_unwell);
        Seen {
            waiting: self.bus.lag(),
            worked: self.health.last_worked().get(ROUTER).copied(),
            trouble: [ROUTER, bus_state::NAME, store_state::NAME]
                .into_iter()
                .any(unwell),
        }
    }

    /// What an operator looks for first: what everything needs, before channels and work beside.
    fn status(&self) -> String {
        let states = self.health.snapshot();
        let unwell = states.iter().filter(|(_, state)| is_unwell(state));
        let mut unwell: Vec<(&String, &State)> = unwell.collect();
        unwell.sort_by_key(|(name, _)| !is_core(name));
        let Some((name, state)) = unwell.first() else {
            return "all is well".to_owned();
        };
        let reason = state.reason().map(|reason| format!(": {reason}"));
        let others = match unwell.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} more, see /readyz)"),
        };
        let (word, reason) = (state.as_str(), reason.unwrap_or_default());
        format!("{name} is {word}{reason}{others}")
    }
}

/// Tells that the start is over once `/readyz` knows how every part is: what the manager starts next asks at once, and would be
/// sent away.
async fn begin(manager: &Manager, health: &Health) {
    // One that leaves it open is no reason to be ended: its state says so from now on.
    drop(tokio::time::timeout(BEGINS_WITHIN, health.begun()).await);
    manager.started();
}

fn standstill(waiting: i64) -> String {
    let waiting = counted(waiting, "record waits", "records wait");
    format!("the router stands still: {waiting}, and none is decided")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use tokio::time::timeout;

    use super::*;
    use crate::daemon::notify::Introduction;

    #[tokio::test(start_paused = true)]
    async fn the_manager_is_told_of_the_start_once_each_part_said_how_it_is_or_in_ten_seconds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let manager = Manager::new(&Introduction {
            notify_socket: Some(path.into()),
            ..Introduction::default()
        });
        let heard = || {
            let mut datagram = [0; 64];
            let length = socket.recv(&mut datagram).unwrap_or_default();
            String::from_utf8(datagram[..length].to_vec()).unwrap()
        };
        let health = Health::default();
        health.set("intake", State::Starting);
        let nearly = BEGINS_WITHIN - Duration::from_millis(1);
        assert!(timeout(nearly, begin(&manager, &health)).await.is_err());
        assert_eq!(heard(), "", "a request would be sent away");
        begin(&manager, &health).await;
        assert_eq!(heard(), "READY=1", "it said nothing for so long");

        health.set("intake", State::Ready);
        let soon = timeout(Duration::from_millis(1), begin(&manager, &health));
        soon.await.expect("at once");
        assert_eq!(heard(), "READY=1");
    }

    #[test]
    fn a_router_stands_still_only_where_records_wait_none_is_decided_and_nothing_is_said() {
        let seen = |waiting, worked, trouble| Seen {
            waiting,
            worked,
            trouble,
        };
        let check = |before: Seen, now: Seen, expected: bool| {
            assert_eq!(moves(&before, &now), expected, "{before:?} then {now:?}");
        };
        check(seen(3, Some(1), false), seen(3, Some(1), false), false);
        check(seen(3, None, false), seen(9, None, false), false);
        check(seen(3, Some(1), true), seen(3, Some(1), false), false);
        // It decides, though more comes than it decides.
        check(seen(3, Some(1), false), seen(9, Some(2), false), true);
        // Nothing to decide, or nothing a moment ago.
        check(seen(3, Some(1), false), seen(0, Some(1), false), true);
        check(seen(0, None, false), seen(3, None, false), true);
        // Known and told.
        check(seen(3, Some(1), false), seen(3, Some(1), true), true);
    }
}
