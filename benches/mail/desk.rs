//! A Dovecot and the daemon that reads its mailbox.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::mails::AUTHSERV_ID;
use crate::peers::Dovecot;
use crate::usage::{Usage, usage};

const READY_MAX: Duration = Duration::from_secs(60);

pub struct Desk {
    pub dovecot: Dovecot,
    binary: PathBuf,
    directory: tempfile::TempDir,
}

pub struct Daemon {
    pub url: String,
    child: Child,
}

impl Desk {
    /// A desk whose first connection imports mail this old.
    pub fn new(binary: &Path, backfill: Option<&str>) -> Result<Self> {
        let desk = Self {
            dovecot: Dovecot::start(),
            binary: binary.to_owned(),
            directory: tempfile::tempdir()?,
        };
        std::fs::write(desk.path("switchboard.toml"), desk.settings(backfill))?;
        Ok(desk)
    }

    pub fn start(&self) -> Result<Daemon> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))?;
        let child = self
            .command(&["run", "--listen", &format!("127.0.0.1:{port}")])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let daemon = Daemon {
            url: format!("http://127.0.0.1:{port}"),
            child,
        };
        // What lies in the mailbox before its first look is no news.
        daemon.until("following the mailbox", READY_MAX, |daemon| {
            let Ok(answer) = daemon.get("/readyz") else {
                return Ok(false);
            };
            let answer: serde_json::Value = answer.json()?;
            Ok(answer["states"]["channel:support-mail"]["state"] == "ready")
        })?;
        Ok(daemon)
    }

    /// A token of an agent who may claim everything.
    pub fn token(&self) -> Result<String> {
        let words = ["token", "create", "--role", "agent", "--agent", "ada"];
        let output = self.command(&words).output()?;
        if !output.status.success() {
            bail!(
                "no token: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Where the mails of the mailbox are, once there was one.
    pub fn maildir(&self) -> Result<PathBuf> {
        let files = self.dovecot.mailbox_files("support");
        let file = files.first().context("the mailbox has no mail yet")?;
        let dir = file.parent().and_then(Path::parent);
        Ok(dir.context("a mail lies in a directory")?.to_owned())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(words)
            .arg("--config")
            .arg(self.path("switchboard.toml"))
            .arg("--data-dir")
            .arg(self.path("data"))
            .env("MAIL_PASSWORD", self.dovecot.password);
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn settings(&self, backfill: Option<&str>) -> String {
        let backfill = backfill.map(|age| format!("backfill = \"{age}\"\n"));
        format!(
            "[queues.frontline]\n\n[channels.support-mail]\nconnector = \"email\"\nqueue = \"frontline\"\n\
             address = \"support@shop.example\"\nauthserv_id = \"{AUTHSERV_ID}\"\n{}\
             imap = {{ host = \"127.0.0.1\", port = {}, tls = \"none\", user = \"support\", password = {{ env = \"MAIL_PASSWORD\" }} }}\n\
             smtp = {{ host = \"127.0.0.1\", port = 9, tls = \"none\" }}\n\n[log]\nlevel = \"warn\"\n",
            backfill.unwrap_or_default(),
            self.dovecot.imap_port
        )
    }
}

impl Daemon {
    pub fn get(&self, path: &str) -> Result<reqwest::blocking::Response> {
        Ok(reqwest::blocking::get(format!("{}{path}", self.url))?)
    }

    /// Messages that were filed since it started.
    pub fn filed(&self) -> Result<usize> {
        let text = self.get("/metrics")?.text()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("switchboard_routed_total{verdict=\"filed\"} "));
        Ok(line.and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    pub fn until(
        &self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&Self) -> Result<bool>,
    ) -> Result<()> {
        let started = Instant::now();
        while !holds(self)? {
            if started.elapsed() > patience {
                bail!("the daemon is not {what} after {patience:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub fn usage(&self) -> Usage {
        usage(self.child.id())
    }

    /// The most memory from here on is counted anew (proc(5), clear_refs).
    pub fn forget_the_most(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").ok();
    }

    pub fn stop(mut self) -> Result<()> {
        let pid = self.child.id();
        Command::new("sh")
            .args(["-c", &format!("kill -TERM {pid}")])
            .status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
