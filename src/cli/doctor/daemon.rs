//! The daemon: which one runs, what it says, and whether its addresses lead to it.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use connector_api::Clock;
use serde_json::Value;

use crate::api::tls::{EXPIRY_SOON, Pair};
use crate::cli::here::Here;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::daemon::control::status::Status;
use crate::daemon::control::{Answer, Request, ask};
use crate::daemon::tls_files;
use crate::http::egress::{Egress, FetchError};
use crate::store::sqlite::look::{look as look_at, sqlite_version};
use crate::words::counted;

use super::{Finding, channels, of_version};

/// Of the daemon's own answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
const ANSWER_WAIT: Duration = Duration::from_secs(10);

pub type Running = Result<Option<Status>, String>;

/// What the running daemon says; `None` where none runs.
pub async fn status(config: &Config) -> Running {
    match ask(&config.server.data_dir, &Request::Status).await {
        None => Ok(None),
        Some(Answer::Error(error)) => Err(error),
        Some(Answer::Result(value)) => {
            let status = serde_json::from_value(value);
            status
                .map(Some)
                .map_err(|error| format!("reading its answer: {error}"))
        }
    }
}

pub fn versions(config: &Config, status: &Running) -> Vec<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    let sqlite = sqlite_version();
    let version = match status {
        Ok(Some(status)) if status.version != own => Finding::warn(
            "version",
            format!("this is {own}, the daemon that runs is {}", status.version),
            "restart the daemon",
        ),
        _ => Finding::ok("version", format!("switchboard {own}, SQLite {sqlite}")),
    };
    let dir = &config.server.data_dir;
    let schema = match look_at(dir) {
        Ok(None) => None,
        Ok(Some(look)) => Some(of_version("schema", look.schema)),
        Err(error) => Some(Finding::fail(
            "schema",
            format!("the database in {}: {error}", dir.display()),
            "run this as the user of the daemon; a damaged database is restored from a backup",
        )),
    };
    std::iter::once(version).chain(schema).collect()
}

pub async fn look(config: &Config, status: &Running) -> Vec<Finding> {
    let mut findings = Vec::new();
    match status {
        Ok(Some(status)) => {
            let (pid, uid) = (status.pid, status.uid);
            let detail = format!("process {pid} of user {uid} runs");
            findings.push(Finding::ok("daemon", detail));
            findings.push(listens(config, status).await);
            findings.extend(tls(config));
            findings.extend(channels::checked(config).await);
            findings.extend(channels::states(status));
            findings.extend(left_over(status.dead_letters, status.held));
        }
        Ok(None) => {
            findings.push(Finding::warn(
                "daemon",
                "it does not run",
                "start it: switchboard run; what channels and addresses do is not looked at",
            ));
            findings.push(port(config).await);
            findings.extend(tls(config));
            // What cannot be read was said with the schema.
            if let Ok(Some(found)) = look_at(&config.server.data_dir)
                && let Some((dead, held)) = found.left_over
            {
                findings.extend(left_over(dead, held));
            }
        }
        Err(error) if is_closed_to_us(config) => findings.push(Finding::warn(
            "daemon",
            format!("whether it runs cannot be seen: {error}"),
            "as that user this says more",
        )),
        Err(error) => findings.push(Finding::fail(
            "daemon",
            format!("it runs and does not answer as it should: {error}"),
            "while its database is away it says no more; otherwise run the doctor of its version",
        )),
    }
    findings.push(public_url(config, status).await);
    findings
}

/// Whether another user's data directory hides the daemon.
fn is_closed_to_us(config: &Config) -> bool {
    let read = std::fs::read_dir(&config.server.data_dir);
    read.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

async fn listens(config: &Config, status: &Status) -> Finding {
    let address = status.address;
    let asked = async {
        let here = Here::of(config, address).map_err(|failure| failure.text)?;
        let url = format!("{}/livez", here.base);
        let answer = here.client.get(&url).timeout(ANSWER_WAIT).send().await;
        let answer = answer.map_err(|error| chain(&error))?;
        match answer.status().is_success() {
            true => Ok(url),
            false => Err(format!("{url} answered {}", answer.status())),
        }
    };
    match asked.await {
        Ok(url) => Finding::ok("listen", format!("{url} answers")),
        Err(error) => Finding::fail(
            "listen",
            format!("{address} does not answer: {error}"),
            "look at the daemon's log; if server.tls was changed, restart it",
        ),
    }
}

/// Whether the address is free for the daemon that is to come.
async fn port(config: &Config) -> Finding {
    let address = config.server.listen;
    let error = match TcpListener::bind(address) {
        Ok(_) => return Finding::ok("listen", format!("{address} is free")),
        Err(error) => error,
    };
    match version_at(config, address).await {
        Some(version) => Finding::fail(
            "listen",
            format!(
                "a Switchboard daemon (version {version}) with another data_dir than {} listens on {address}",
                config.server.data_dir.display()
            ),
            "name its data directory or its configuration (--data-dir, --config) and run this as its \
             user; or give this one another server.listen",
        ),
        None => Finding::fail(
            "listen",
            format!("{address}: {error}"),
            "another program has the address, or it is not this machine's: change server.listen",
        ),
    }
}

/// The version of the Switchboard that answers there, if it is one.
async fn version_at(config: &Config, address: SocketAddr) -> Option<String> {
    let here = Here::of(config, address).ok()?;
    let url = format!("{}/version", here.base);
    let answer = here
        .client
        .get(url)
        .timeout(ANSWER_WAIT)
        .send()
        .await
        .ok()?;
    if answer
        .content_length()
        .is_none_or(|bytes| bytes > ANSWER_BYTES_MAX)
    {
        return None;
    }
    let version: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
    version["instance"].as_str()?;
    version["version"].as_str().map(str::to_owned)
}

fn tls(config: &Config) -> Option<Finding> {
    let files = tls_files(config)?;
    let now = SystemClock.now();
    Some(match Pair::read(&files, now) {
        Err(error) => Finding::fail("tls", error.reason, "put a valid pair in its place"),
        Ok(pair) => {
            let left = pair.not_after.duration_since(now).unsigned_abs();
            let detail = format!("the certificate is valid until {}", pair.not_after);
            match left < EXPIRY_SOON {
                true => Finding::warn("tls", detail, "renew it; no restart is needed"),
                false => Finding::ok("tls", detail),
            }
        }
    })
}

fn left_over(dead_letters: i64, held: i64) -> [Finding; 2] {
    [
        match dead_letters {
            0 => Finding::ok("dead_letters", "none"),
            some => Finding::warn(
                "dead_letters",
                counted(
                    some,
                    "message could not be filed",
                    "messages could not be filed",
                ),
                "switchboard dead-letters list",
            ),
        },
        match held {
            0 => Finding::ok("outbox", "nothing is held"),
            some => Finding::warn(
                "outbox",
                counted(
                    some,
                    "answer waits for a person to say what became of it",
                    "answers wait for a person to say what became of them",
                ),
                "switchboard outbox list --state unknown",
            ),
        },
    ]
}

/// Asks for `/version` from outside, as far as this machine can, and compares who answers.
async fn public_url(config: &Config, status: &Running) -> Finding {
    let Some(url) = &config.server.public_url else {
        return Finding::ok("public_url", "not set: nothing is told to providers");
    };
    let url = url.as_str().trim_end_matches('/').to_owned();
    let Ok(Some(status)) = status else {
        return Finding::warn(
            "public_url",
            format!("{url} is not looked at"),
            "start the daemon and run this again",
        );
    };
    let hint = "look at the proxy, the name's address and the certificate; providers go that way";
    match fetch(&url).await {
        Err(FetchError::Refused(error) | FetchError::Unavailable(error)) => {
            Finding::fail("public_url", format!("{url}/version: {error}"), hint)
        }
        Ok(bytes) => {
            let version: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            match version["instance"].as_str() {
                Some(instance) if instance == status.instance => {
                    Finding::ok("public_url", format!("{url} leads to this daemon"))
                }
                Some(_) => Finding::fail(
                    "public_url",
                    format!("{url} leads to another switchboard"),
                    hint,
                ),
                None => Finding::fail(
                    "public_url",
                    format!("{url} leads to something that is no switchboard"),
                    hint,
                ),
            }
        }
    }
}

/// Through the client that fetches what strangers name. The operator named this one: its address
/// may be private.
async fn fetch(url: &str) -> Result<Vec<u8>, FetchError> {
    let host = reqwest::Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default();
    let host = host.trim_matches(['[', ']']).to_owned();
    let egress = Egress::new(&[host]);
    let egress = egress.map_err(|error| FetchError::Unavailable(error.to_string()))?;
    let fetched = egress
        .fetch(&format!("{url}/version"), ANSWER_BYTES_MAX)
        .await;
    fetched.map(|file| file.bytes.to_vec())
}

/// An error with its causes: reqwest's own words leave out the reason.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
