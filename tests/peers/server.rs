//! Starting and stopping one foreign server process, without ever leaving one behind.
//!
//! A small shell stands between the test and the server: it ends the server when its standard input closes, which
//! happens when the test drops the handle, panics, or is itself killed.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::{PATIENCE, now};

/// First argument: the open-file limit. Postfix closes every possible descriptor one by one when it starts, which
/// takes seconds under a large limit.
const SUPERVISE: &str = r#"
ulimit -n 4096
"$@" </dev/null &
server=$!
echo "$server" >"$PID_FILE"
exec 3<&0
( cat <&3 >/dev/null; kill -TERM "$server" 2>/dev/null ) &
exec 3<&-
wait "$server"
"#;

/// A running server and the directory that holds everything it writes.
pub struct Server {
    name: &'static str,
    directory: tempfile::TempDir,
    log: PathBuf,
    command: Vec<String>,
    ports: Vec<u16>,
    shell: Child,
}

/// How long a server may take to come up that was killed: a broker is let in again only once a controller has missed it,
/// and that one may have to be found first.
const AGAIN_PATIENCE: Duration = Duration::from_secs(120);

/// What a server's set-up leaves to be started.
pub struct Plan {
    pub name: &'static str,
    pub directory: tempfile::TempDir,
    /// Shown when the server does not start, and when its test fails.
    pub log: PathBuf,
    pub command: Vec<String>,
    /// The server is up once all of these accept a connection.
    pub ports: Vec<u16>,
}

impl Server {
    /// Starts what `plan` sets up; tries again with a new plan when the server ends at once, as on a port just taken.
    pub fn start<T>(mut plan: impl FnMut() -> (Plan, T)) -> (Server, T) {
        let attempts_max = 3;
        for attempt in 1..=attempts_max {
            let (plan, rest) = plan();
            let mut server = Server::spawn(plan);
            if server.comes_up() {
                return (server, rest);
            }
            assert!(
                attempt < attempts_max,
                "{} does not start:\n{}",
                server.name,
                server.log_tail()
            );
        }
        unreachable!("the last attempt returns or panics");
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the last lines of the server's own log.
    pub fn log_tail(&self) -> String {
        let errors =
            std::fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default();
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(40)..)
            .unwrap_or_default()
            .join("\n");
        format!("{errors}{tail}")
    }

    /// Starts what `plan` sets up, which has to come up.
    pub fn start_one(plan: Plan) -> Server {
        let mut server = Server::spawn(plan);
        assert!(
            server.comes_up(),
            "{} does not start:\n{}",
            server.name,
            server.log_tail()
        );
        server
    }

    /// The process of the server itself.
    pub fn pid(&self) -> u32 {
        let written = std::fs::read_to_string(self.directory.path().join("pid"));
        let written = written.expect("the shell has written it");
        written.trim().parse().expect("a number")
    }

    /// Ends it as a power cut of the process would.
    pub fn kill_9(&mut self) {
        let killed = as_root("sh")
            .args(["-c", &format!("kill -KILL {}", self.pid())])
            .status();
        assert!(killed.is_ok_and(|status| status.success()), "kill runs");
        self.ended();
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) {
        // What waits for the end of its standard input goes with it.
        drop(self.shell.stdin.take());
        self.shell.wait().expect("the shell is our child");
    }

    /// Starts one that has ended once more, on what it left.
    pub fn start_again(&mut self) {
        self.shell = shell(self.directory.path(), &self.command);
        assert!(
            self.comes_up_within(AGAIN_PATIENCE),
            "{} does not start again:\n{}",
            self.name,
            self.log_tail()
        );
    }

    fn spawn(plan: Plan) -> Server {
        Server {
            shell: shell(plan.directory.path(), &plan.command),
            name: plan.name,
            directory: plan.directory,
            log: plan.log,
            command: plan.command,
            ports: plan.ports,
        }
    }

    fn comes_up(&mut self) -> bool {
        self.comes_up_within(PATIENCE)
    }

    fn comes_up_within(&mut self, patience: Duration) -> bool {
        let deadline = now() + patience;
        for port in &self.ports {
            while TcpStream::connect(("127.0.0.1", *port)).is_err() {
                let ended = self
                    .shell
                    .try_wait()
                    .expect("the shell is our child")
                    .is_some();
                if ended || now() > deadline {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        true
    }
}

fn shell(directory: &Path, command: &[String]) -> Child {
    let errors = File::options()
        .create(true)
        .append(true)
        .open(directory.join("stderr"))
        .expect("a file in its directory");
    as_root("env")
        .arg(format!("PID_FILE={}", directory.join("pid").display()))
        .args(["sh", "-c", SUPERVISE, "sh"])
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(errors)
        // A Cyrus that ends signals its whole group of processes: the other servers of the tests are not in it.
        .process_group(0)
        .spawn()
        .expect("sh starts (sudo too, where the tests do not run as root)")
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut errors = std::io::stderr().lock();
            writeln!(errors, "--- log of {} ---\n{}", self.name, self.log_tail()).ok();
        }
        drop(self.shell.stdin.take());
        self.shell.wait().ok();
        // Some files are root's, and a last child of the server may be writing one.
        for _ in 0..10 {
            if as_root("rm")
                .arg("-rf")
                .arg(self.directory.path())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
            {
                break;
            }
        }
    }
}

/// Returns a directory that the servers' own accounts may enter.
pub fn open_directory(name: &str) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix(&format!("switchboard-{name}-"))
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary directory")
}

/// Returns a port that nothing listens on, never the same one twice in this process.
///
/// It lies below the range from which the kernel takes the ports of outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000;
    let count = 10_000;
    let start = u16::try_from(std::process::id().wrapping_mul(61) % u32::from(count))
        .expect("below the modulus");
    for _ in 0..count {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % count;
        let port = first + (start + step) % count;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {first} on");
}

/// Returns the account that owns mail on disk: our own, or the system's `mail` where the tests run as root, since
/// Dovecot serves no mail as root.
pub fn mail_account() -> (String, String) {
    if is_root() {
        ("mail".to_owned(), "mail".to_owned())
    } else {
        (id("-un"), id("-gn"))
    }
}

/// Returns a command that runs as root.
pub fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(program);
    command
}

/// Returns where a server's program is, or fails the test when it is not installed.
pub fn installed(program: &str) -> String {
    assert!(
        Path::new(program).exists(),
        "{program} is missing; make test installs it (Debian's package of that server)"
    );
    program.to_owned()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn id(option: &str) -> String {
    let output = Command::new("id").arg(option).output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
