//! What the service manager is told, by the protocol of sd_notify(3): lines of `KEY=value` in one datagram to the socket that
//! `$NOTIFY_SOCKET` names. Where there is none (a terminal, a container) nobody is told, and nothing else is different.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::warn;

/// A manager whose queue is full gets the next datagram; waiting for it would hold up the daemon.
const SENT_WITHIN: Duration = Duration::from_secs(1);
/// How long opening a store may take once it is there: as long as the unit gives a start (`TimeoutStartSec`).
const START_MAX: Duration = Duration::from_secs(15 * 60);
/// As much of a status as is of use in one line.
const STATUS_CHARS_MAX: usize = 500;

/// The service manager, where there is one.
#[derive(Default)]
pub struct Manager {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

/// How a manager introduces itself to a process: what it sets in the environment.
#[derive(Debug, Clone, Default)]
pub struct Introduction {
    pub notify_socket: Option<OsString>,
    pub watchdog_usec: Option<String>,
    pub watchdog_pid: Option<String>,
}

impl Introduction {
    pub fn of_process() -> Self {
        Self {
            notify_socket: std::env::var_os("NOTIFY_SOCKET"),
            watchdog_usec: std::env::var("WATCHDOG_USEC").ok(),
            watchdog_pid: std::env::var("WATCHDOG_PID").ok(),
        }
    }

    /// How long the manager waits for a sign of life, where it waits for this process at all.
    fn watchdog(&self) -> Option<Duration> {
        let is_for_us =
            (self.watchdog_pid.as_ref()).is_none_or(|pid| *pid == std::process::id().to_string());
        let micros: u64 = self.watchdog_usec.as_ref()?.parse().ok()?;
        (is_for_us && micros > 0).then(|| Duration::from_micros(micros))
    }
}

impl Manager {
    pub fn new(introduction: &Introduction) -> Self {
        let Some(name) = &introduction.notify_socket else {
            return Self::default();
        };
        match connect(name) {
            Ok(to) => Self {
                to: Some(to),
                watchdog: introduction.watchdog(),
            },
            Err(error) => {
                let name = name.display();
                warn!(%error, "NOTIFY_SOCKET={name} cannot be used, so the service manager is told nothing: {error}");
                Self::default()
            }
        }
    }

    pub fn is_there(&self) -> bool {
        self.to.is_some()
    }

    /// How long it waits for [`Self::alive`] before it starts the process again; `None`: it does not.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Everything has started.
    pub fn started(&self) {
        match self.watchdog {
            Some(watchdog) => {
                self.tell(&format!("READY=1\nWATCHDOG_USEC={}", watchdog.as_micros()))
            }
            None => self.tell("READY=1"),
        }
    }

    /// A start waits for something elsewhere, and says for what. Said at every try: it has started, and is alive. Once that is
    /// there it may have much to do before the next sign of life.
    pub fn waiting(&self, what: &str) {
        let patience = match self.watchdog {
            Some(_) => format!("\nWATCHDOG_USEC={}", START_MAX.as_micros()),
            None => String::new(),
        };
        let what = one_line(what);
        self.tell(&format!("READY=1{patience}\nWATCHDOG=1\nSTATUS={what}"));
    }

    /// The configuration is being read again, until what is returned is dropped. That it was wrong is no failure of the
    /// daemon: the old one stays, and the state `config` says so.
    #[must_use]
    pub fn reloading(&self) -> Reloading<'_> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        // In one datagram: by the time the manager knows which of its requests this answers.
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        Reloading(self)
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping: finishes what is under way");
    }

    /// One line for people (`systemctl status`).
    pub fn status(&self, text: &str) {
        self.tell(&format!("STATUS={}", one_line(text)));
    }

    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, lines: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(error) = socket.send_to_addr(lines.as_bytes(), address)
        {
            warn!(%error, "the service manager could not be told {lines:?}: {error}");
        }
    }
}

/// While the configuration is read again.
pub struct Reloading<'a>(&'a Manager);

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        self.0.tell("READY=1");
    }
}

/// What a person may read has no lines that a manager would take for its own.
fn one_line(text: &str) -> String {
    let line = text.chars().take(STATUS_CHARS_MAX);
    line.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = address(name)?;
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SENT_WITHIN))?;
    Ok((socket, address))
}

/// A path, or a name after "@" in the abstract namespace. Addresses of another kind are for the first process of a virtual
/// machine.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().split_first() {
        #[cfg(target_os = "linux")]
        Some((b'@', name)) => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)
        }
        Some((b'/', _)) => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither an absolute path nor begins with \"@\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What arrives at a manager that is introduced by `name` when `say` is said.
    fn heard(manager: &UnixDatagram, name: &OsStr, say: fn(&Manager)) -> Vec<String> {
        say(&Manager::new(&Introduction {
            notify_socket: Some(name.to_owned()),
            ..Introduction::default()
        }));
        manager.set_nonblocking(true).unwrap();
        let mut lines = Vec::new();
        let mut datagram = [0; 4096];
        while let Ok(length) = manager.recv(&mut datagram) {
            lines.push(String::from_utf8(datagram[..length].to_vec()).unwrap());
        }
        lines
    }

    fn at_a_path(say: fn(&Manager)) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        heard(&manager, path.as_os_str(), say)
    }

    #[test]
    fn every_message_is_one_datagram() {
        assert_eq!(at_a_path(Manager::started), ["READY=1"]);
        assert_eq!(at_a_path(Manager::alive), ["WATCHDOG=1"]);
        assert_eq!(
            at_a_path(Manager::stopping),
            ["STOPPING=1\nSTATUS=stopping: finishes what is under way"]
        );
        let waiting = |manager: &Manager| manager.waiting("waits for the database");
        assert_eq!(
            at_a_path(waiting),
            ["READY=1\nWATCHDOG=1\nSTATUS=waits for the database"]
        );
        let status = |manager: &Manager| manager.status("bus is unreachable:\nREADY=1");
        assert_eq!(
            at_a_path(status),
            ["STATUS=bus is unreachable: READY=1"],
            "words of a state are no messages of their own"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_manager_in_the_abstract_namespace_is_told_too() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("switchboard-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let introduced: OsString = format!("@{name}").into();
        assert_eq!(heard(&manager, &introduced, Manager::started), ["READY=1"]);
    }

    /// A reload answers the request that was made before it, by the clock that the manager reads, too.
    #[test]
    fn a_reload_says_by_the_monotonic_clock_when_it_began_and_when_it_is_over() {
        let now = || {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
        };
        let before = now();
        let lines = at_a_path(|manager| drop(manager.reloading()));
        let [begun, over] = lines.as_slice() else {
            panic!("two datagrams: {lines:?}");
        };
        let at = begun.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!((before..=now()).contains(&at.parse().unwrap()), "{begun}");
        assert_eq!(over, "READY=1");
    }

    #[test]
    fn without_a_manager_or_with_a_name_that_is_none_nobody_is_told() {
        for name in [None, Some(""), Some("notify"), Some("vsock:2:1234")] {
            let manager = Manager::new(&Introduction {
                notify_socket: name.map(Into::into),
                ..Introduction::default()
            });
            assert!(!manager.is_there(), "{name:?}");
            manager.started();
        }
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let own = std::process::id().to_string();
        let check = |usec: Option<&str>, pid: Option<&str>, expected: Option<u64>| {
            let introduction = Introduction {
                watchdog_usec: usec.map(str::to_owned),
                watchdog_pid: pid.map(str::to_owned),
                ..Introduction::default()
            };
            let found = introduction.watchdog();
            assert_eq!(found, expected.map(Duration::from_secs), "{introduction:?}");
        };
        check(None, None, None);
        check(Some("120000000"), None, Some(120));
        check(Some("120000000"), Some(&own), Some(120));
        check(Some("120000000"), Some("1"), None);
        check(Some("0"), None, None);
        check(Some("soon"), None, None);
    }
}
