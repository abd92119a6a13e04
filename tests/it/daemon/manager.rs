//! The daemon under a service manager: what it tells it, over a real socket, from start to end.

use std::os::unix::net::UnixDatagram;
#[cfg(all(feature = "kafka", feature = "postgres"))]
use std::path::Path;

#[cfg(all(feature = "kafka", feature = "postgres"))]
use super::process::binary;
use super::process::{Installation, PATIENCE, chat_config};

const NOWHERE: &str = "http://127.0.0.1:9/none";

/// Signs of life come twice a second: those of half a minute.
const DATAGRAMS_MAX: usize = 60;

/// The manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(daemon: &Installation) -> (Self, String) {
        let path = daemon.dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (Self(socket), path.display().to_string())
    }

    fn next(&self) -> String {
        let mut datagram = [0; 4096];
        let length = self.0.recv(&mut datagram).expect("it says something");
        String::from_utf8(datagram[..length].to_vec()).unwrap()
    }

    /// What is said until something that begins so: with it, and without signs of life.
    fn until(&self, begin: &str) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..DATAGRAMS_MAX {
            let next = self.next();
            let found = next.starts_with(begin);
            if found || next != "WATCHDOG=1" {
                said.push(next);
            }
            if found {
                return said;
            }
        }
        panic!("it never said {begin:?}, but {said:?}");
    }
}

#[test]
fn a_service_manager_hears_of_start_life_reloads_and_end() {
    let daemon = Installation::new(&chat_config(NOWHERE));
    let (manager, socket) = Manager::listen(&daemon);
    daemon.run_in(&[
        ("NOTIFY_SOCKET", socket.as_str()),
        ("WATCHDOG_USEC", "2000000"),
    ]);
    let first = "READY=1\nWATCHDOG_USEC=2000000";
    assert_eq!(manager.until("READY=1"), [first]);
    manager.until("STATUS=all is well");
    manager.until("WATCHDOG=1");

    // By a signal, and by the command.
    daemon.hang_up();
    let said = manager.until("READY=1");
    let [begun, over] = said.as_slice() else {
        panic!("a reload begins and is over: {said:?}");
    };
    assert!(begun.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{begun}");
    assert_eq!(over, "READY=1");
    assert!(daemon.command(&["reload"]).status.success());
    manager.until("RELOADING=1\n");
    manager.until("READY=1");

    // A wrong configuration ends a reload, too; then the status says what is wrong.
    daemon.write_config("[queues.frontline]\nprioritty = \"high\"\n");
    daemon.hang_up();
    manager.until("RELOADING=1\n");
    manager.until("READY=1");
    let said = manager.until("STATUS=config is degraded: ");
    assert!(said.last().unwrap().contains("prioritty"), "{said:?}");
    let unwell = |part: &str| daemon.metric(&format!("switchboard_part_unwell{{part=\"{part}\"}}"));
    assert_eq!([unwell("config"), unwell("router")], [1.0, 0.0]);

    assert!(daemon.terminate());
    manager.until("STOPPING=1\n");
}

/// The exit code is what container engines look at.
#[test]
fn health_is_a_command_whose_exit_code_says_whether_the_daemon_is_ready() {
    let daemon = Installation::start(&chat_config(NOWHERE));
    let health = || daemon.command(&["health", "--listen", &daemon.address]);
    let found = health();
    assert!(found.status.success());
    assert_eq!(found.stdout, b"ready\n");

    assert!(daemon.terminate());
    let gone = health();
    assert_eq!(gone.status.code(), Some(1));
    let said = String::from_utf8(gone.stderr).unwrap();
    assert!(said.contains("does not answer"), "{said}");
}

#[test]
fn a_daemon_whose_manager_is_gone_starts_and_ends_as_ever() {
    let daemon = Installation::new(&chat_config(NOWHERE));
    let (manager, socket) = Manager::listen(&daemon);
    drop(manager);
    daemon.run_in(&[("NOTIFY_SOCKET", socket.as_str())]);
    assert!(daemon.terminate());
    let log = daemon.log_text();
    assert!(
        log.contains("the service manager could not be told"),
        "{log}"
    );
}

/// Its manager would end it, or wait for ever, at a boot at which the database comes later.
#[cfg(all(feature = "kafka", feature = "postgres"))]
#[test]
fn a_daemon_that_waits_for_its_database_has_started_and_says_what_it_waits_for() {
    let daemon = Installation::new(
        "[bus]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:9\"]\n\
         [store]\nkind = \"postgres\"\nurl = \"postgres://switchboard@127.0.0.1:9/none\"\n\
         blobs_dir = \"{dir}/blobs\"\n[queues.frontline]\n",
    );
    let (manager, socket) = Manager::listen(&daemon);
    let mut child = daemon
        .command_line(Path::new(binary()), &["run", "--listen", &daemon.address])
        .env("NOTIFY_SOCKET", socket)
        .env("WATCHDOG_USEC", "2000000")
        .spawn()
        .unwrap();
    // More than once, and with time enough for what it has to do once the database is there.
    let begin = "READY=1\nWATCHDOG_USEC=900000000\nWATCHDOG=1\nSTATUS=waits for the database: ";
    manager.until(begin);
    manager.until(begin);
    child.kill().unwrap();
    child.wait().unwrap();
}
