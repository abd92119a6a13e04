//! A real PostgreSQL, shared by the tests that run at the same time: each has a database of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::server::{self, Plan, Server};
use super::{PATIENCE, wait_until};

/// Ends the server at once, whoever is connected; the server refuses to run as root.
const RUN: &str = r#"
"$@" & server=$!
trap 'kill -INT "$server"' TERM
wait "$server"; wait "$server"
"#;
/// Debian's account without rights.
const NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=nobody",
    "--regid=nogroup",
    "--clear-groups",
];

pub struct Postgres {
    pub port: u16,
    databases: AtomicU32,
    server: Mutex<Server>,
}

impl Postgres {
    /// The server of the tests that run now; it ends with the last of them.
    pub fn shared() -> Arc<Postgres> {
        static RUNNING: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            // What a crash of the server loses is another test's.
            let started = Arc::new(Self::start(&["fsync=off", "shared_buffers=64MB"]));
            *running = Arc::downgrade(&started);
            started
        })
    }

    /// A server that keeps what it committed, for a test that crashes it.
    pub fn durable() -> Postgres {
        Self::start(&["fsync=on", "shared_buffers=64MB"])
    }

    /// A server of one's own, with settings as in its configuration file.
    pub fn start(settings: &[&str]) -> Postgres {
        Self::of(Server::start(|| plan(settings, &Beginning::Empty)))
    }

    /// A server that asks `user`, and nobody else, for this password.
    pub fn asking(user: &str, password: &str) -> Postgres {
        let files = server::open_directory("postgres-trust");
        let path = files.path().join("trust");
        let trust = format!(
            "host all {user} all scram-sha-256\nhost all all all trust\nlocal all all trust\n"
        );
        std::fs::write(&path, trust).expect("a file in a fresh directory");
        let hba = format!("hba_file={}", path.display());
        let started = Self::start(&[&hba, "fsync=off", "shared_buffers=64MB"]);
        let role = format!("CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{password}'");
        started.run("postgres", &role);
        started
    }

    /// A server that follows this one, which from now on commits nothing that the other one has not.
    pub fn standby(&self) -> Postgres {
        let follow = Beginning::Follows(self.port);
        let standby = Self::of(Server::start(|| plan(&["shared_buffers=64MB"], &follow)));
        self.run(
            "postgres",
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
        );
        self.run("postgres", "SELECT pg_reload_conf()");
        wait_until("the standby to be waited for", PATIENCE, || {
            self.number("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
        });
        standby
    }

    /// Has a standby take over.
    pub fn promote(&self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        control(&server, &["promote", "-s"]);
    }

    /// Ends it for good as `pg_ctl stop -m immediate` does.
    pub fn end_at_once(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        control(&server, &["stop", "-s", "-m", "immediate"]);
        server.ended();
    }

    fn of((server, port): (Server, u16)) -> Postgres {
        let started = Postgres {
            port,
            databases: AtomicU32::new(0),
            server: Mutex::new(server),
        };
        started.answers();
        started
    }

    /// A server with a certificate. It keeps its own copy of the files, as it wants them: its own, and nobody
    /// else's.
    pub fn over_tls(cert: &str, key: &str) -> Postgres {
        let files = server::open_directory("postgres-tls");
        let mut settings = vec!["ssl=on".to_owned()];
        for (setting, name, content) in [
            ("ssl_cert_file", "cert.pem", cert),
            ("ssl_key_file", "key.pem", key),
        ] {
            let path = files.path().join(name);
            std::fs::write(&path, content).expect("a file in a fresh directory");
            let own = format!("chown nobody:nogroup {0} && chmod 600 {0}", path.display());
            let owned = server::as_root("sh").args(["-c", &own]).status();
            assert!(owned.is_ok_and(|done| done.success()), "chown runs");
            settings.push(format!("{setting}={}", path.display()));
        }
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let started = Self::start(&settings);
        // It has read them.
        drop(files);
        started
    }

    /// It listens before it answers.
    fn answers(&self) {
        wait_until("PostgreSQL to answer", PATIENCE, || {
            let asked = Command::new(programs().join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status();
            asked.is_ok_and(|answer| answer.success())
        });
    }

    /// Ends it as `pg_ctl stop -m immediate` does, without a checkpoint, and starts it again: it recovers from
    /// its log.
    pub fn crash(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        control(&server, &["stop", "-s", "-m", "immediate"]);
        server.ended();
        server.start_again();
        drop(server);
        self.answers();
    }

    /// What a query gives: a line per row, its columns separated by `|`.
    pub fn rows(&self, database: &str, sql: &str) -> Vec<String> {
        let asked = Command::new(programs().join("psql"))
            .args(["-qAth", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", "switchboard", "-d", database, "-c", sql])
            .output()
            .expect("psql runs");
        assert!(asked.status.success(), "{sql} runs");
        let text = String::from_utf8(asked.stdout).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    /// Runs a statement on a database, as its administrator would.
    pub fn run(&self, database: &str, sql: &str) {
        let done = Command::new(programs().join("psql"))
            .args(["-qh", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", "switchboard", "-d", database, "-c", sql])
            .status();
        assert!(done.is_ok_and(|done| done.success()), "{sql} runs");
    }

    /// A number, asked on the administrator's database.
    pub fn number(&self, sql: &str) -> i64 {
        let asked = Command::new(programs().join("psql"))
            .args(["-qAth", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", "switchboard", "-d", "postgres", "-c", sql])
            .output();
        let told = asked.expect("psql runs").stdout;
        let told = String::from_utf8_lossy(&told);
        told.trim()
            .parse()
            .unwrap_or_else(|_| panic!("{sql}: {told}"))
    }

    /// What makes the tables of a database, as `pg_dump` says it.
    pub fn tables(&self, database: &str) -> String {
        let told = Command::new(programs().join("pg_dump"))
            .args(["-sh", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", "switchboard", "-d", database])
            .output()
            .expect("pg_dump runs");
        assert!(told.status.success(), "pg_dump says what {database} has");
        let text = String::from_utf8(told.stdout).expect("text");
        // A line that begins with a backslash has a random key in it.
        let lines = text.lines().filter(|line| !line.starts_with('\\'));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Makes an empty database that no other test has; its name.
    pub fn make_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let made = Command::new(programs().join("createdb"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", "switchboard", &name])
            .status();
        assert!(made.is_ok_and(|done| done.success()), "createdb runs");
        name
    }
}

fn control(server: &Server, arguments: &[&str]) {
    let [setpriv, of_setpriv @ ..] = NOBODY;
    let done = server::as_root(setpriv)
        .args(of_setpriv)
        .arg(programs().join("pg_ctl"))
        .args(arguments)
        .arg("-D")
        .arg(server.directory().join("data"))
        .current_dir(server.directory())
        .status();
    assert!(done.is_ok_and(|done| done.success()), "pg_ctl runs");
}

/// What a server begins with.
enum Beginning {
    Empty,
    /// What the server at this port has, which it follows.
    Follows(u16),
}

fn plan(settings: &[&str], beginning: &Beginning) -> (Plan, u16) {
    let programs = programs();
    let directory = server::open_directory("postgres");
    let path = directory.path().to_owned();
    let port = server::free_port();
    let data = path.join("data");
    let owner = server::as_root("chown")
        .args(["nobody:nogroup".as_ref(), path.as_os_str()])
        .status();
    assert!(owner.is_ok_and(|done| done.success()), "chown runs");
    let [setpriv, arguments @ ..] = NOBODY;
    let mut making = server::as_root(setpriv);
    making.args(arguments);
    match beginning {
        Beginning::Empty => making
            .arg(programs.join("initdb"))
            .args(["--username=switchboard", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8", "--no-sync", "-D"]),
        Beginning::Follows(port) => making
            .arg(programs.join("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-p", &port.to_string()])
            .args(["-U", "switchboard", "-c", "fast", "-X", "stream"])
            .args(["--write-recovery-conf", "--no-sync", "-D"]),
    };
    let made = making
        .arg(&data)
        .current_dir(&path)
        .stdout(Stdio::null())
        .status();
    assert!(made.is_ok_and(|done| done.success()), "its files are made");
    let mut command: Vec<String> = ["sh", "-c", RUN, "sh"].map(str::to_owned).to_vec();
    command.extend(NOBODY.map(str::to_owned));
    command.push(programs.join("postgres").display().to_string());
    command.extend(["-D".to_owned(), data.display().to_string()]);
    for setting in [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        format!("unix_socket_directories={}", path.display()),
        "max_connections=200".to_owned(),
        "deadlock_timeout=100ms".to_owned(),
    ] {
        command.extend(["-c".to_owned(), setting]);
    }
    for setting in settings {
        command.extend(["-c", setting].map(str::to_owned));
    }
    let plan = Plan {
        name: "PostgreSQL",
        log: path.join("stderr"),
        directory,
        command,
        ports: vec![port],
    };
    (plan, port)
}

/// Debian keeps them out of the path: those of the newest version.
fn programs() -> PathBuf {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.into_iter().flatten().flatten();
    let newest = versions
        .map(|entry| entry.path())
        .max_by_key(|path| version(path));
    let programs = newest.unwrap_or_default().join("bin");
    server::installed(&programs.join("postgres").display().to_string());
    programs
}
