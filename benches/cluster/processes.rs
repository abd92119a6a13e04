//! The daemon's processes, on topics and a database of their own.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::peers::Postgres;

pub const CHANNEL: &str = "load-chat";
pub const KEY: &[u8] = b"a load test's key of 32 bytes...";
/// What a process does: it takes in and answers agents, or it decides.
pub const DOOR: &str = r#""inbound", "api""#;
pub const ROUTER: &str = r#""router""#;
const PARTITIONS: u32 = 12;
const READY_MAX: Duration = Duration::from_secs(60);

/// What processes share.
pub struct Site {
    pub brokers: String,
    pub prefix: String,
    pub database: String,
    port: u16,
    files: tempfile::TempDir,
}

pub struct Process {
    pub address: SocketAddr,
    child: Child,
    config: PathBuf,
    data: PathBuf,
}

impl Site {
    pub fn new(brokers: String, postgres: &Postgres) -> Result<Self> {
        let database = postgres.make_database();
        Ok(Self {
            brokers,
            prefix: format!("bench-{database}"),
            database,
            port: postgres.port,
            files: tempfile::tempdir()?,
        })
    }

    /// Starts a process with these parts; it is ready on return.
    pub fn start(&self, parts: &str) -> Result<Process> {
        let name = uuid::Uuid::now_v7().simple().to_string();
        let data = self.files.path().join(&name);
        let config = data.with_extension("toml");
        std::fs::write(&config, self.config(parts))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let log = File::create(data.with_extension("log"))?;
        let child = command(&config, &data)
            .args(["run", "--listen", &address.to_string()])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the daemon")?;
        let mut process = Process {
            address,
            child,
            config,
            data,
        };
        process.becomes_ready()?;
        Ok(process)
    }

    fn config(&self, parts: &str) -> String {
        format!(
            "[run]\nparts = [{parts}]\n[bus]\nkind = \"kafka\"\nbrokers = [\"{}\"]\nprefix = \"{}\"\n\
             partitions = {PARTITIONS}\nreplication = 1\n[store]\nkind = \"postgres\"\n\
             url = \"postgres://switchboard@127.0.0.1:{}/{}\"\nblobs_dir = \"{}\"\n[queues.frontline]\n\
             [channels.{CHANNEL}]\nconnector = \"webhook\"\nqueue = \"frontline\"\n\
             secrets = [{{ env = \"SWITCHBOARD_LOAD_SECRET\" }}]\n[log]\nlevel = \"warn\"\n",
            self.brokers,
            self.prefix,
            self.port,
            self.database,
            self.files.path().join("blobs").display()
        )
    }

    /// How many messages are in conversations.
    pub fn filed(&self, postgres: &Postgres) -> Result<u64> {
        self.number(postgres, "SELECT count(*) FROM message")
    }

    /// How far all partitions are, together: it rises by one with each record.
    pub fn decided(&self, postgres: &Postgres) -> Result<u64> {
        let sql = "SELECT coalesce(sum(greatest(position, 0) >> 12), 0) FROM position";
        self.number(postgres, sql)
    }

    fn number(&self, postgres: &Postgres, sql: &str) -> Result<u64> {
        let rows = postgres.rows(&self.database, sql);
        Ok(rows.first().context("no row")?.parse()?)
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn becomes_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        let http = reqwest::blocking::Client::new();
        let url = format!("http://{}/readyz", self.address);
        loop {
            let answer = http.get(&url).send();
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let log = self.data.with_extension("log");
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "the daemon ended with {status}: {}",
                    std::fs::read_to_string(log)?
                );
            }
            if begun.elapsed() > READY_MAX {
                bail!(
                    "not ready after {READY_MAX:?}: {}",
                    std::fs::read_to_string(log)?
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A token of an agent.
    pub fn token(&self) -> Result<String> {
        let made = command(&self.config, &self.data)
            .args(["token", "create", "--role", "agent", "--agent", "bench"])
            .output()?;
        if !made.status.success() {
            bail!("no token: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.pid())])
            .status()
            .ok();
        self.child.wait().ok();
    }
}

fn command(config: &PathBuf, data: &PathBuf) -> Command {
    let binary = std::env::var_os("SWITCHBOARD_BIN");
    let mut command = Command::new(binary.unwrap_or(env!("CARGO_BIN_EXE_switchboard").into()));
    command
        .env(
            "SWITCHBOARD_LOAD_SECRET",
            format!("whsec_{}", STANDARD.encode(KEY)),
        )
        .arg("--config")
        .arg(config)
        .arg("--data-dir")
        .arg(data);
    command
}
