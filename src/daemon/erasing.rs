//! Erases people, in short steps with rests between them; what a crash interrupted goes on where its row says.
//!
//! Beside an embedded database stands the file `erasures`, with the numbers of the contacts that were asked to be
//! erased. A backup of before knows them still: a start that finds one of them again erases it again.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use connector_api::{CancellationToken, Clock};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::blobs::{self, Blobs};
use crate::bus::Bus;
use crate::clock::micros;
use crate::dispatch::Refusal;
use crate::dispatch::privacy::operator;
use crate::health::{Health, State};
use crate::ids::ContactId;
use crate::live::Live;
use crate::store::privacy::{Asking, Copies, Erasure, Overwritten, Stage};
use crate::store::rows::operating::COPIES;
use crate::store::{Result, Store, StoreError, name_of};

use super::settings::Kept;

/// Under which name its state is kept; it makes nothing unready.
pub const NAME: &str = "work:erasure";
/// Looks for what was asked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks for copies that came again of what is gone. Each goes over the whole database, so that there are
/// so many times as long as it took between two.
const OVERWRITE_EVERY_MIN: Duration = Duration::from_secs(20);
const OVERWRITE_REST_TIMES: u32 = 100;
/// Erasures that one look goes on with: one that waits holds up no other.
const AT_ONCE: u32 = 50;
/// Messages that one step removes: some milliseconds of the writer.
const STEP_MESSAGES: u32 = 50;
/// After each step it rests so many times as long as the step took.
const REST_TIMES: u32 = 3;
const REST_MIN: Duration = Duration::from_millis(5);
/// Files that are removed at a time.
const FILES: u32 = 200;
/// The file beside the database.
const NOTED: &str = "erasures";

pub struct Erasing {
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub blobs: Blobs,
    pub clock: Arc<dyn Clock>,
    pub health: Arc<Health>,
    pub keep: Live<Kept>,
    /// Where the file is that outlives a restored database; `None` where processes share one.
    pub data_dir: Option<PathBuf>,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    /// Whose numbers these are.
    installation: String,
    contact: i64,
    asked_at: i64,
    who: String,
    reason: String,
}

impl Erasing {
    pub async fn run(&self, stop: CancellationToken) {
        self.health.set(NAME, State::Ready);
        let mut again = true;
        let mut overwrite_at: Option<Instant> = None;
        loop {
            let mut done = match again && !bug!("erased-comes-back-with-a-backup") {
                true => self.again().await,
                false => Ok(()),
            };
            again &= done.is_err();
            if done.is_ok() {
                done = self.look(&stop).await;
            }
            if done.is_ok() && overwrite_at.is_none_or(|at| at <= instant()) {
                let begun = instant();
                done = self.overwrite_dropped().await;
                let rest = begun.elapsed() * OVERWRITE_REST_TIMES;
                overwrite_at = Some(instant() + rest.max(OVERWRITE_EVERY_MIN));
            }
            self.health.set(
                NAME,
                match done {
                    Ok(()) => State::Ready,
                    Err(error) => {
                        warn!(%error, "erasing failed, trying again");
                        let reason = error.to_string();
                        State::Degraded { reason }
                    }
                },
            );
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn now(&self) -> i64 {
        micros(self.clock.now())
    }

    /// Goes on with every erasure that is not done, as far as each goes.
    async fn look(&self, stop: &CancellationToken) -> Result<()> {
        for erasure in self.store.open_erasures(AT_ONCE).await? {
            let mut stage = erasure.stage;
            if stage == Stage::Asked {
                self.note(&erasure)?;
                // What was accepted before is decided, and so among what is erased.
                let decided = self.bus.decided_so_far();
                let decided = tokio::select! {
                    decided = decided => decided,
                    () = stop.cancelled() => return Ok(()),
                };
                decided.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            }
            while stage != Stage::Done && !stop.is_cancelled() {
                let begun = instant();
                let Some(next) = self.step(&erasure, stage).await? else {
                    break;
                };
                stage = next;
                let rest = (begun.elapsed() * REST_TIMES).max(REST_MIN);
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(rest) => {}
                }
            }
        }
        Ok(())
    }

    /// One step; the stage that it is at then, or `None` while it has to wait.
    async fn step(&self, erasure: &Erasure, stage: Stage) -> Result<Option<Stage>> {
        let id = erasure.id;
        match stage {
            Stage::Words => {
                if !self.store.erase_words(id, self.now()).await? {
                    self.store.advance_erasure(id, stage).await?;
                    return Ok(Some(stage.next()));
                }
                Ok(Some(stage))
            }
            Stage::Files => {
                if self.remove_files(id).await? {
                    return Ok(Some(stage));
                }
                self.store.advance_erasure(id, stage).await?;
                Ok(Some(stage.next()))
            }
            Stage::Overwriting => match self.store.overwrite(id).await? {
                Overwritten::Later(why) => {
                    self.store.wait_erasure(id, Some(why)).await?;
                    Ok(None)
                }
                Overwritten::Done { left } => {
                    let keep = self.keep.now();
                    let spared = self.bus.names_files_for();
                    let shared = self.data_dir.is_none();
                    let copies = Copies {
                        backups: keep.backups,
                        bus: shared.then_some(keep.swept.bus),
                        files: (!spared.is_zero()).then_some(spared),
                        unused_space: left,
                    };
                    self.store.finish_erasure(id, copies, self.now()).await?;
                    metrics::counter!("switchboard_erasures_total").increment(1);
                    info!("a contact was erased; `switchboard erasures` says what was removed");
                    Ok(Some(Stage::Done))
                }
            },
            _ => {
                let step = self.store.erase_step(id, STEP_MESSAGES, self.now()).await?;
                Ok(step.waits.is_none().then_some(step.stage))
            }
        }
    }

    /// Removes some of the files that were noted under a number; whether there were any.
    async fn remove_files(&self, id: i64) -> Result<bool> {
        let files = self.store.erasing_files(id, FILES).await?;
        if files.is_empty() {
            return Ok(false);
        }
        let unnamed = |files| async {
            let unnamed = self.store.unnamed_files(files).await;
            unnamed.map_err(std::io::Error::other)
        };
        // What a bus elsewhere may name goes when its record has gone.
        let spared = self.bus.names_files_for();
        let removed = blobs::erase(&self.blobs, &files, spared, unnamed).await;
        let removed: u64 = removed.map_err(|error: std::io::Error| {
            StoreError::Unavailable(format!("removing files: {error}"))
        })?;
        self.store.forget_erasing_files(id, files, removed).await?;
        Ok(true)
    }

    /// What came again of the erased, and was dropped, is overwritten, too.
    async fn overwrite_dropped(&self) -> Result<()> {
        while self.remove_files(COPIES).await? {}
        self.store.overwrite_dropped().await
    }

    /// Writes down who is erased, before anything is: a database put back later knows nothing of it.
    fn note(&self, erasure: &Erasure) -> Result<()> {
        let Some(data_dir) = &self.data_dir else {
            return Ok(());
        };
        let line = Noted {
            installation: name_of(self.store.installation_key()),
            contact: erasure.contact.0,
            asked_at: erasure.asked_at,
            who: erasure.who.clone(),
            reason: erasure.reason.clone(),
        };
        let failed = |error: std::io::Error| {
            StoreError::Unavailable(format!("{}: {error}", data_dir.join(NOTED).display()))
        };
        let known = noted(data_dir).map_err(failed)?;
        if known
            .iter()
            .any(|one| (one.contact, one.asked_at) == (line.contact, line.asked_at))
        {
            return Ok(());
        }
        let write = || {
            let path = data_dir.join(NOTED);
            let mut file = File::options().create(true).append(true).open(path)?;
            let text = serde_json::to_string(&line).map_err(std::io::Error::other)?;
            file.write_all(format!("{text}\n").as_bytes())?;
            file.sync_all()?;
            File::open(data_dir)?.sync_all()
        };
        write().map_err(failed)
    }

    /// Asks again for those who are there once more.
    async fn again(&self) -> Result<()> {
        let Some(data_dir) = &self.data_dir else {
            return Ok(());
        };
        let known = noted(data_dir).map_err(|error| {
            StoreError::Unavailable(format!("{}: {error}", data_dir.join(NOTED).display()))
        })?;
        let installation = name_of(self.store.installation_key());
        for one in known
            .into_iter()
            .filter(|one| one.installation == installation)
        {
            let asking = Asking {
                contact: ContactId(one.contact),
                actor: operator(),
                who: one.who,
                reason: one.reason,
                at: one.asked_at,
            };
            match self.store.ask_erasure(asking).await {
                // Gone, and its row as well.
                Ok(_) | Err(StoreError::Refused(Refusal::NotFound { .. })) => {}
                Err(StoreError::Refused(why)) => {
                    warn!(%why, "somebody who was erased is back by a backup and cannot be erased again: {why}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What the file says. A line that a crash cut short was asked for by nobody who was answered with it begun.
fn noted(data_dir: &Path) -> std::io::Result<Vec<Noted>> {
    match fs::read_to_string(data_dir.join(NOTED)) {
        Ok(text) => Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[expect(clippy::disallowed_methods, reason = "measures how long a step takes")]
fn instant() -> Instant {
    Instant::now()
}
