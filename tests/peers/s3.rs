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
    /// Where its certificate is, if it has one.
    tls: Option<PathBuf>,
    _server: Server,
}

fn installed() -> PathBuf {
    let home = std::env::var_os("HOME").expect("a home");
    Path::new(&home).join(".cache/switchboard-peers/s3")
}

/// The command line of the script, over TLS where there is a directory for that.
fn script(tls: Option<&Path>) -> Vec<String> {
    let tls = tls.map(|directory| format!("S3_TLS={}", directory.display()));
    let python = installed().join("venv/bin/python").display().to_string();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/s3.py");
    let words = ["env".to_owned()].into_iter().chain(tls);
    words.chain([python, script.to_owned()]).collect()
}

impl S3 {
    pub fn start() -> S3 {
        Self::with(None)
    }

    /// One with a certificate, and the authority that signed it.
    pub fn over_tls(cert: &str, key: &str, authority: &str) -> S3 {
        Self::with(Some([
            ("cert.pem", cert),
            ("key.pem", key),
            ("authority.pem", authority),
        ]))
    }

    /// The file of the authority that signed its certificate.
    pub fn authority(&self) -> PathBuf {
        let directory = self.tls.as_ref().expect("it is over TLS");
        directory.join("authority.pem")
    }

    fn with(tls: Option<[(&str, &str); 3]>) -> S3 {
        assert!(
            installed().join("complete").exists(),
            "sh tests/peers/install.sh installs the S3 server"
        );
        let (server, port) = Server::start(|| {
            let directory = tempfile::tempdir().expect("a directory");
            let port = free_port();
            let keys = directory.path().join("keys");
            for (name, content) in tls.into_iter().flatten() {
                let written = std::fs::write(directory.path().join(name), content);
                written.expect("a file in a fresh directory");
            }
            let mut command = script(tls.map(|_| directory.path()));
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
            tls: tls.map(|_| server.directory().to_owned()),
            _server: server,
        }
    }

    fn run(&self, args: &[&str]) -> String {
        let script = script(self.tls.as_deref());
        let done = Command::new(&script[0])
            .args(&script[1..])
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
