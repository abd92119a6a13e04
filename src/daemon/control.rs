//! The local control socket: other commands of this machine talk to the running daemon through it,
//! because the data directory has one owner. One JSON request, one JSON answer, a line each.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use connector_api::{CancellationToken, ChannelId, Clock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::api::export::Place;
use crate::api::token;
use crate::blobs::Blobs;
use crate::channels::LiveChannels;
use crate::clock::{micros, timestamp};
use crate::ids::{IdCodec, IdKind};
use crate::live::Live;
use crate::router::Policy;
use crate::store::{OutboxState, Rings, SettleAs, Store, StoreError, StoredDeadLetter, Token};
use crate::wake::Wakes;

use super::StartError;
use super::channel_test::ChannelTests;
use super::import::{Begin, Importer};
use super::reconcile::Reconciler;
use super::reload::Reload;

mod channel;
pub mod import;
mod outbox;
mod privacy;
mod reconcile;
pub mod status;
pub mod steps;

pub use channel::Hidden;

const REQUEST_BYTES_MAX: u64 = 64 * 1024;
const DEAD_LETTERS_LISTED: u32 = 1000;
const BODY_SHOWN_BYTES_MAX: usize = 64 * 1024;

/// What a command asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    TokenCreate {
        label: String,
        role: String,
        agent: Option<String>,
        queues: Vec<String>,
        brands: Vec<String>,
        #[serde(default)]
        scopes: Vec<String>,
    },
    TokenList,
    TokenRevoke {
        id: String,
    },
    DeadLetterList,
    DeadLetterShow {
        id: String,
    },
    DeadLetterRedrive {
        id: String,
    },
    OutboxList {
        /// Empty: all.
        states: Vec<OutboxState>,
        channel: Option<String>,
    },
    OutboxSettle {
        id: String,
        outcome: SettleAs,
    },
    OutboxSettleRestored {
        outcome: SettleAs,
        channel: Option<String>,
    },
    OutboxHold,
    /// What the running daemon says about itself.
    Status,
    /// Tries what every channel needs of its provider.
    ChannelChecks,
    /// Whether the running daemon has these environment variables.
    Environment {
        names: Vec<String>,
    },
    /// Batches follow on the same connection.
    Import(Begin),
    /// Its steps are lines of their own.
    ChannelTest {
        channel: String,
        wait_seconds: u64,
    },
    /// How a channel can be granted access.
    ChannelWays {
        channel: ChannelId,
    },
    /// Begins to grant it; with a port, through a browser that comes back to it.
    ChannelAuthorize {
        channel: ChannelId,
        port: Option<u16>,
    },
    /// Goes on with what the step before answered.
    ChannelAuthorizeStep {
        channel: ChannelId,
        state: Hidden,
        answer: Option<Hidden>,
    },
    /// Compares what came since with what is stored; of one channel, or of all.
    Reconcile {
        since: Timestamp,
        channel: Option<String>,
    },
    /// Reads the configuration again.
    Reload,
    /// Puts a legal hold on a contact; without a reason, lifts it.
    HoldContact {
        contact: String,
        reason: Option<String>,
    },
    /// A piece of a contact's export: the first, or the one at a place that the one before gave.
    ExportContact {
        contact: String,
        place: Option<Place>,
    },
    /// Erases a contact.
    EraseContact {
        contact: String,
        reason: String,
    },
    /// The newest erasures, or the one of this id.
    Erasures {
        id: Option<String>,
    },
    /// Some bytes of a file of an export.
    ExportFile {
        id: String,
        from: u64,
    },
}

/// `result`, or `error` for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Result(serde_json::Value),
    Error(String),
}

/// Carries requests out, in the daemon or in a command that holds the data directory itself.
pub struct Control {
    pub store: Arc<dyn Store>,
    pub channels: LiveChannels,
    pub policy: Live<Policy>,
    pub blobs: Blobs,
    pub ids: IdCodec,
    pub clock: Arc<dyn Clock>,
    /// Rung under a queue's id when it has more waiting.
    pub queues: Arc<Wakes>,
    /// Rung under a channel's id when its outbox has something.
    pub outbox: Arc<Wakes>,
    /// Rung under a channel's id when its source should try again at once.
    pub sources: Arc<Wakes>,
    /// Whether lanes run on this store.
    pub sending: bool,
    /// Only in the daemon.
    pub importer: Option<Importer>,
    pub tests: Option<ChannelTests>,
    pub about: Option<status::About>,
    pub reload: Option<Arc<Reload>>,
    pub reconciler: Arc<Reconciler>,
}

impl Control {
    pub async fn answer(&self, request: Request) -> Answer {
        match self.carry_out(request).await {
            Ok(value) => Answer::Result(value),
            Err(error) => Answer::Error(error),
        }
    }

    async fn carry_out(&self, request: Request) -> Result<serde_json::Value, String> {
        let text = |error: StoreError| error.to_string();
        let now = micros(self.clock.now());
        match request {
            Request::TokenCreate {
                label,
                role,
                agent,
                queues,
                brands,
                scopes,
            } => {
                let (secret, hash) = token::mint();
                let new = Token {
                    id: 0,
                    label,
                    role,
                    agent,
                    queues,
                    brands,
                    scopes,
                    created_at: now,
                    revoked_at: None,
                };
                let made = self.store.create_token(hash, new).await.map_err(text)?;
                let secret = connector_api::ExposeSecret::expose_secret(&secret).to_owned();
                Ok(
                    serde_json::json!({ "id": self.ids.encode(IdKind::Token, made.id), "token": secret }),
                )
            }
            Request::TokenList => {
                let tokens = self.store.tokens().await.map_err(text)?;
                Ok(tokens.iter().map(|token| self.token_view(token)).collect())
            }
            Request::TokenRevoke { id } => {
                let number = self.ids.decode(IdKind::Token, &id);
                let number = number.ok_or_else(|| format!("there is no token {id}"))?;
                match self.store.revoke_token(number, now).await.map_err(text)? {
                    true => Ok(serde_json::json!({ "id": id, "revoked": true })),
                    false => Err(format!("there is no valid token {id}")),
                }
            }
            Request::DeadLetterList => {
                let letters = self
                    .store
                    .dead_letters(DEAD_LETTERS_LISTED)
                    .await
                    .map_err(text)?;
                Ok(letters
                    .iter()
                    .map(|letter| self.letter_view(letter, false))
                    .collect())
            }
            Request::DeadLetterShow { id } => {
                let found = self
                    .store
                    .dead_letter(self.letter_number(&id)?)
                    .await
                    .map_err(text)?;
                let found = found.ok_or_else(|| format!("there is no dead letter {id}"))?;
                Ok(self.letter_view(&found, true))
            }
            Request::DeadLetterRedrive { id } => {
                let number = self.letter_number(&id)?;
                match self
                    .store
                    .redrive(number, self.policy.now(), now)
                    .await
                    .map_err(text)?
                {
                    Some(rings) => {
                        self.ring(&rings);
                        Ok(serde_json::json!({ "id": id, "state": "filed" }))
                    }
                    None => Err(format!("{id} is not a parked dead letter")),
                }
            }
            Request::OutboxList { states, channel } => self.unsent(states, channel).await,
            Request::OutboxSettle { id, outcome } => self.settle(&id, outcome).await,
            Request::OutboxSettleRestored { outcome, channel } => {
                self.settle_restored(outcome, channel).await
            }
            Request::OutboxHold => self.hold().await,
            Request::Status => self.status().await,
            Request::ChannelChecks => self.channel_checks().await,
            Request::Environment { names } => self.environment(&names),
            Request::Import(_) | Request::ChannelTest { .. } => {
                Err("this needs the running daemon".to_owned())
            }
            Request::ChannelWays { channel } => self.ways(&channel),
            Request::ChannelAuthorize { channel, port } => self.authorize(&channel, port).await,
            Request::ChannelAuthorizeStep {
                channel,
                state,
                answer,
            } => self.authorize_step(&channel, state, answer).await,
            Request::HoldContact { contact, reason } => self.hold_contact(&contact, reason).await,
            Request::ExportContact { contact, place } => self.export_contact(&contact, place).await,
            Request::EraseContact { contact, reason } => self.erase_contact(&contact, reason).await,
            Request::Erasures { id } => self.erasures(id).await,
            Request::ExportFile { id, from } => self.export_file(&id, from).await,
            Request::Reconcile { since, channel } => self.reconcile(since, channel).await,
            Request::Reload => match &self.reload {
                Some(reload) => {
                    let changes = reload.run().await?;
                    serde_json::to_value(changes).map_err(|error| error.to_string())
                }
                None => Err("this needs the running daemon".to_owned()),
            },
        }
    }

    fn ring(&self, rings: &Rings) {
        for queue in &rings.queues {
            self.queues.ring(queue.as_str());
        }
        for channel in &rings.channels {
            self.outbox.ring(channel.as_str());
        }
    }

    fn letter_number(&self, id: &str) -> Result<i64, String> {
        self.ids
            .decode(IdKind::Message, id)
            .ok_or_else(|| format!("there is no dead letter {id}"))
    }

    fn token_view(&self, token: &Token) -> serde_json::Value {
        serde_json::json!({
            "id": self.ids.encode(IdKind::Token, token.id), "label": token.label, "role": token.role,
            "agent": token.agent, "queues": token.queues, "brands": token.brands,
            "scopes": token.scopes,
            "created_at": timestamp(token.created_at), "revoked_at": token.revoked_at.map(timestamp),
        })
    }

    fn letter_view(&self, letter: &StoredDeadLetter, with_body: bool) -> serde_json::Value {
        let mut view = serde_json::json!({
            "id": self.ids.encode(IdKind::Message, letter.record), "state": letter.state,
            "reason": letter.reason, "attempts": letter.attempts, "at": timestamp(letter.at),
        });
        if with_body {
            let body = letter.body.as_deref().unwrap_or_default();
            let shown = String::from_utf8_lossy(body.get(..BODY_SHOWN_BYTES_MAX).unwrap_or(body))
                .into_owned();
            view["body"] = serde_json::Value::String(shown);
            view["body_bytes"] = body.len().into();
        }
        view
    }
}

/// Where the socket of a data directory is.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Longest path of a socket, in bytes: `sun_path` of unix(7) without its closing NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A path to the socket that is short enough to use: the one in the data directory, or the same by
/// way of the open directory. The file keeps that way open.
fn usable_path(data_dir: &Path) -> std::io::Result<(PathBuf, Option<File>)> {
    let path = socket_path(data_dir);
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok((path, None));
    }
    let dir = File::open(data_dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    if !short.is_dir() {
        return Err(std::io::Error::other(format!(
            "the path of its control socket is longer than {SOCKET_PATH_BYTES_MAX} bytes, which no \
             socket may have: choose a data directory with a shorter path"
        )));
    }
    Ok((socket_path(&short), Some(dir)))
}

/// Listens in the data directory, which only its owner may enter.
pub fn serve(
    data_dir: &Path,
    control: Control,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, StartError> {
    let failed = |error| StartError::DataDir {
        path: data_dir.to_owned(),
        error,
    };
    let (path, dir) = usable_path(data_dir).map_err(failed)?;
    // A socket left by a killed daemon; the lock says that none is running.
    if path.exists() {
        std::fs::remove_file(&path).map_err(failed)?;
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    let control = Arc::new(control);
    Ok(tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match stream {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, control.clone()))),
                Err(error) => warn!(%error, "accepting a control connection failed"),
            }
        }
        if let Err(error) = std::fs::remove_file(&path) {
            warn!(%error, "removing the control socket failed");
        }
        drop(dir);
    }))
}

async fn converse(stream: UnixStream, control: Arc<Control>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    let read = (&mut reader)
        .take(REQUEST_BYTES_MAX)
        .read_line(&mut line)
        .await;
    let answer = match read.map(|_| serde_json::from_str(&line)) {
        Ok(Ok(Request::Import(begin))) if let Some(importer) = &control.importer => {
            return import::converse(importer, begin, reader, writer).await;
        }
        Ok(Ok(Request::ChannelTest {
            channel,
            wait_seconds,
        })) if let Some(tests) = &control.tests => {
            let wait = Duration::from_secs(wait_seconds);
            return steps::tell(tests, &channel, wait, writer).await;
        }
        Ok(Ok(request)) => control.answer(request).await,
        Ok(Err(error)) => Answer::Error(format!("reading the request: {error}")),
        Err(error) => Answer::Error(format!("reading the request: {error}")),
    };
    let text = serde_json::to_string(&answer).unwrap_or_default();
    if let Err(error) = writer.write_all(format!("{text}\n").as_bytes()).await {
        // Most commands only ring, and leave.
        debug!(%error, "nobody waited for the answer to a command");
    }
}

/// A connection to the daemon that runs on a data directory, which keeps a long way to it open: `None`
/// where none runs, and words where that cannot be seen.
async fn connect(data_dir: &Path) -> Option<Result<(UnixStream, Option<File>), String>> {
    let connected = match usable_path(data_dir) {
        Ok((path, dir)) => UnixStream::connect(path).await.map(|stream| (stream, dir)),
        Err(error) => Err(error),
    };
    match connected {
        Ok(connected) => Some(Ok(connected)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Some(Err(not_entered(data_dir, &error)))
        }
        Err(_) => None,
    }
}

/// What to say to somebody who is not the daemon's user.
pub fn not_entered(data_dir: &Path, error: &std::io::Error) -> String {
    let owner = std::fs::metadata(data_dir).map(|dir| dir.uid());
    let owner = owner.map_or_else(|_| String::new(), |owner| format!(" (user {owner})"));
    format!(
        "the data directory {}: {error}: run this as its owner{owner}, as in `sudo -u switchboard switchboard …`",
        data_dir.display()
    )
}

/// Whether a daemon runs on a data directory.
pub async fn is_up(data_dir: &Path) -> bool {
    let Ok((path, _dir)) = usable_path(data_dir) else {
        return false;
    };
    UnixStream::connect(path).await.is_ok()
}

/// Asks the daemon that runs on a data directory; `None` where none does.
pub async fn ask(data_dir: &Path, request: &Request) -> Option<Answer> {
    let (stream, _dir) = match connect(data_dir).await? {
        Ok(connected) => connected,
        Err(words) => return Some(Answer::Error(words)),
    };
    let (reader, mut writer) = stream.into_split();
    let text = serde_json::to_string(request).ok()?;
    writer
        .write_all(format!("{text}\n").as_bytes())
        .await
        .ok()?;
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).await.ok()?;
    Some(
        serde_json::from_str(&line)
            .unwrap_or_else(|error| Answer::Error(format!("reading the answer: {error}"))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_the_daemons_user_is_told_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let owner = std::fs::metadata(dir.path()).unwrap().uid();
        let told = not_entered(dir.path(), &ErrorKind::PermissionDenied.into());
        assert!(told.contains("permission denied"), "{told}");
        assert!(
            told.contains(&format!("as its owner (user {owner})")),
            "{told}"
        );
    }

    #[tokio::test]
    async fn a_socket_below_a_long_path_is_reached_by_way_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        for length in [1, 50, 120, 200] {
            let data_dir = dir.path().join("d".repeat(length));
            std::fs::create_dir(&data_dir).unwrap();
            let (path, _open) = usable_path(&data_dir).unwrap();
            assert!(path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
            let _listener = UnixListener::bind(&path).unwrap();
            assert!(socket_path(&data_dir).exists(), "{length}");
            let (path, _open) = usable_path(&data_dir).unwrap();
            UnixStream::connect(path).await.unwrap();
        }
    }
}
