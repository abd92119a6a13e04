//! The daemon under test as a process: started on a configuration of its own, watched through /proc, stopped in order.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::{Instant, sleep};

use crate::http::{self, Connection};

/// The channel under load, and the one whose few conversations are claimed to measure how long that takes.
pub const LOAD: Place = Place {
    channel: "load-chat",
    queue: "frontline",
};
pub const PROBE: Place = Place {
    channel: "probe-chat",
    queue: "probe",
};

#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub channel: &'static str,
    pub queue: &'static str,
}

/// How long the daemon may take to become ready before the run is given up.
const READY_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(30);

pub struct Installation {
    pub binary: PathBuf,
    pub data: PathBuf,
    pub key: Vec<u8>,
}

pub struct Daemon {
    pub address: SocketAddr,
    /// From exec to the first 200 of /readyz.
    pub ready: Duration,
    child: Child,
}

impl Installation {
    pub async fn start(&self) -> Result<Daemon> {
        let config = self.config();
        std::fs::write(&config, self.settings())
            .with_context(|| format!("cannot write {}", config.display()))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let log = self.log();
        let output = File::options().create(true).append(true).open(&log)?;
        let started = Instant::now();
        let mut child = self
            .command(&["run"])
            .args(["--listen", &address.to_string()])
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let mut request = Vec::new();
        http::write_request(&mut request, "GET", "/readyz", &[], b"");
        let mut connection = Connection::new(address);
        loop {
            if connection
                .call(&request)
                .await
                .is_ok_and(|answer| answer.status == 200)
            {
                return Ok(Daemon {
                    address,
                    ready: started.elapsed(),
                    child,
                });
            }
            if let Some(status) = child.try_wait()? {
                bail!(
                    "the daemon ended with {status}; its log is {}",
                    log.display()
                );
            }
            if started.elapsed() > READY_MAX {
                child.kill().ok();
                bail!(
                    "the daemon is not ready after {READY_MAX:?}; its log is {}",
                    log.display()
                );
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Makes a token for an agent of this queue.
    pub fn token(&self, agent: &str, queue: &str) -> Result<String> {
        let output = self
            .command(&["token", "create"])
            .args(["--role", "agent", "--agent", agent, "--queues", queue])
            .output()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        if !output.status.success() {
            bail!(
                "cannot create a token: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    pub fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    fn config(&self) -> PathBuf {
        self.data.with_extension("toml")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(words)
            .arg("--config")
            .arg(self.config())
            .arg("--data-dir")
            .arg(&self.data)
            .env(
                "SWITCHBOARD_LOAD_SECRET",
                format!("whsec_{}", STANDARD.encode(&self.key)),
            );
        command
    }

    fn settings(&self) -> String {
        let mut text = String::new();
        for place in [LOAD, PROBE] {
            let Place { channel, queue } = place;
            text.push_str(&format!(
                "[queues.{queue}]\n\n[channels.{channel}]\nconnector = \"webhook\"\nqueue = \"{queue}\"\n\
                 secrets = [{{ env = \"SWITCHBOARD_LOAD_SECRET\" }}]\n\n"
            ));
        }
        text.push_str("[log]\nlevel = \"warn\"\n");
        text
    }
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the daemon to stop and returns how long that took.
    pub async fn stop(mut self) -> Result<Duration> {
        let started = Instant::now();
        // The shell's own: a small Debian has no program of that name.
        Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.pid())])
            .status()
            .context("cannot run kill")?;
        while started.elapsed() < STOP_MAX {
            if let Some(status) = self.child.try_wait()? {
                if !status.success() {
                    bail!("the daemon ended with {status} when it was asked to stop");
                }
                return Ok(started.elapsed());
            }
            sleep(Duration::from_millis(5)).await;
        }
        bail!("the daemon does not stop within {STOP_MAX:?}")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a failure on the way; an ordered stop has ended it already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
