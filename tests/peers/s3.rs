//! A foreign S3 server that checks signatures and rights, and a foreign client: both are of Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::{Plan, Server, free_port};
use super::{PATIENCE, wait_for};

/// With the bucket `switchboard`, and a user who may use it.
pub struct S3 {
    pub port: u16,
    pub access_key: String,
    pub secret_key: String,
    _server: Server,
}

fn installed() -> PathBuf {
    let home = std::env::var_os("HOME").expect("a home");
    Path::new(&home).join(".cache/switchboard-peers/s3")
}

fn script() -> Command {
    let mut command = Command::new(installed().join("venv/bin/python"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/s3.py"));
    command
}

impl S3 {
    pub fn start() -> S3 {
        assert!(
            installed().join("complete").exists(),
            "sh tests/peers/install.sh installs the S3 server"
        );
        let (server, port) = Server::start(|| {
            let directory = tempfile::tempdir().expect("a directory");
            let port = free_port();
            let keys = directory.path().join("keys");
            let script = script();
            let words = std::iter::once(script.get_program()).chain(script.get_args());
            let mut command: Vec<String> = words
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            command.extend(["serve".to_owned(), port.to_string()]);
            command.push(keys.display().to_string());
            let plan = Plan {
                name: "the S3 server",
                log: directory.path().join("log"),
                directory,
                command,
                ports: vec![port],
            };
            (plan, port)
        });
        let keys = server.directory().join("keys");
        let made = wait_for("the bucket and its user", PATIENCE, || {
            let text = std::fs::read_to_string(&keys).ok()?;
            let (access_key, secret_key) = text.trim_end().split_once('\n')?;
            Some((access_key.to_owned(), secret_key.to_owned()))
        });
        S3 {
            port,
            access_key: made.0,
            secret_key: made.1,
            _server: server,
        }
    }

    fn run(&self, args: &[&str]) -> String {
        let done = script()
            .args(["ask", &self.port.to_string()])
            .args([&self.access_key, &self.secret_key])
            .args(args)
            .output()
            .expect("starting the client");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{args:?}: {said}");
        String::from_utf8(done.stdout).expect("names are text")
    }

    /// The names of all objects.
    pub fn names(&self) -> Vec<String> {
        self.run(&["list"]).lines().map(str::to_owned).collect()
    }

    /// Writes an object as somebody else would.
    pub fn put(&self, name: &str, content: &str) {
        self.run(&["put", name, content]);
    }
}
