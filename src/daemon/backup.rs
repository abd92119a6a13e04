//! Backups of an embedded installation: the database as it stood at one moment, and the files that it names. A backup is a
//! directory; its `manifest.json`, written last, says what is in it.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use connector_api::{Clock, Timestamp};
use serde::{Deserialize, Serialize};

use crate::blobs::{Blobs, hex};
use crate::config::{Config, StoreKind};
use crate::store::StoreError;
use crate::store::sqlite::backup::{self as copy, Held};
use crate::store::sqlite::database_path;

use super::copying::{Copying, Files};
use super::installation::blobs_dir;

mod restore;

pub use restore::{Restored, restore};

/// What is not understood by an older build is another format.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const DATABASE: &str = "switchboard.db";
const FILES: &str = "files";
/// What a moment's copy names may be forgotten before it is copied; then it is of an earlier moment than it should be.
const MOMENTS_MAX: u32 = 3;

/// Why there is no backup, or nothing was restored, with what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackupError(String);

type Result<T> = std::result::Result<T, BackupError>;

impl From<String> for BackupError {
    fn from(why: String) -> Self {
        Self(why)
    }
}

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Of the switchboard that made it.
    pub version: String,
    /// Of the tables.
    pub schema: i64,
    /// A name for the key of the installation.
    pub installation: String,
    /// Everything that was committed before is in it.
    pub made_at: Timestamp,
    pub database: Database,
    pub files: Files,
    pub contacts: u64,
    pub conversations: u64,
    pub messages: u64,
    /// Accepted and not decided; decided once the restored one runs.
    pub undecided: u64,
    /// Replies that had not left; held for a person once the restored one runs.
    pub unsent: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    pub bytes: u64,
    pub sha256: String,
}

/// Makes a backup of what is in the data directory, whether a daemon runs on it or not, and reads all of it back.
pub async fn back_up(
    config: &Config,
    to: &Path,
    clock: &dyn Clock,
    tell: &dyn Fn(&str),
) -> Result<Manifest> {
    refuse_shared(config)?;
    let data_dir = &config.server.data_dir;
    let database = database_path(data_dir);
    if !database.exists() {
        return refused(format!(
            "{}: there is no installation here: name its data directory (server.data_dir or --data-dir)",
            data_dir.display()
        ));
    }
    let place = Place::make(to, data_dir)?;
    let from = blobs(&blobs_dir(config, data_dir))?;
    let to = blobs(&place.partial.join(FILES))?;
    let copying = Copying { from, to };
    let (made_at, held) = a_moment(&database, &place, &copying, clock, tell).await?;
    tell("reading it back");
    let files = copying.compare(&held.files, tell).await?;
    let at = place.partial.join(DATABASE);
    let wrong = copy::check(&at).map_err(|error| unreadable(&at, &error))?;
    if let Some(wrong) = wrong {
        return refused(format!(
            "the database is damaged, and so would be its copy: {wrong}. What can be read of it is still served; restore an \
             earlier backup, or have {} looked at",
            database.display()
        ));
    }
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema: held.schema.version,
        installation: held.installation,
        made_at,
        database: digest_of(&at).map_err(|error| failed(&at, &error))?,
        files,
        contacts: held.contacts,
        conversations: held.conversations,
        messages: held.messages,
        undecided: held.undecided,
        unsent: held.unsent,
    };
    place.finish(&manifest)?;
    Ok(manifest)
}

/// Copies the database as it is now and the files that it names. What is forgotten meanwhile is not in a backup, so where a file
/// is, a later moment is taken.
async fn a_moment(
    database: &Path,
    place: &Place,
    copying: &Copying,
    clock: &dyn Clock,
    tell: &dyn Fn(&str),
) -> Result<(Timestamp, Held)> {
    let at = place.partial.join(DATABASE);
    let mut moments = 1;
    loop {
        let made_at = clock.now();
        let pages = |left, all| tell(&format!("database: {left} of {all} pages are left"));
        copy::copy(database, &at, &pages).map_err(|error| unreadable(database, &error))?;
        let held = copy::held(&at).map_err(|error| unreadable(database, &error))?;
        let Err(why) = copying.copy(&held.files, tell).await else {
            return Ok((made_at, held));
        };
        let gone = |file: &[u8; 32]| -> Result<bool> {
            let named = copy::names_file(database, file);
            Ok(!named.map_err(|error| unreadable(database, &error))?)
        };
        let missing = copying.missing(&held.files).await.map_err(BackupError)?;
        let mut forgotten = !missing.is_empty();
        for file in &missing {
            forgotten &= gone(file)?;
        }
        if !forgotten || moments == MOMENTS_MAX {
            return refused(why);
        }
        moments += 1;
        tell("a file was forgotten meanwhile, taking a later moment");
        fs::remove_file(&at).map_err(|error| failed(&at, &error))?;
    }
}

/// A directory that is made beside its name and gets it once everything is in it.
struct Place {
    to: PathBuf,
    partial: PathBuf,
}

impl Place {
    fn make(to: &Path, data_dir: &Path) -> Result<Self> {
        let refuse = |why: &str| refused(format!("{}: {why}", to.display()));
        let Some(name) = to.file_name() else {
            return refuse("name the directory to make");
        };
        if fs::symlink_metadata(to).is_ok() {
            return refuse("it is there already: name one that is not; a backup is never changed");
        }
        let parent = match to.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let real = fs::canonicalize(parent).map_err(|error| failed(parent, &error))?;
        if fs::canonicalize(data_dir).is_ok_and(|data| real.starts_with(data)) {
            return refuse("it would be in the data directory itself, and lost with it");
        }
        let mut partial = name.to_owned();
        partial.push(".partial");
        let partial = real.join(partial);
        remove_unfinished(&partial)?;
        // It has what customers wrote, and every key.
        let made = fs::DirBuilder::new().mode(0o700).create(&partial);
        made.map_err(|error| failed(&partial, &error))?;
        let to = real.join(name);
        Ok(Self { to, partial })
    }

    fn finish(&self, manifest: &Manifest) -> Result<()> {
        let path = self.partial.join(MANIFEST);
        let finished = || {
            let mut file = File::options()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            serde_json::to_writer_pretty(&mut file, manifest)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            File::open(&self.partial)?.sync_all()?;
            fs::rename(&self.partial, &self.to)?;
            let parent = self.to.parent().unwrap_or(Path::new("/"));
            File::open(parent)?.sync_all()
        };
        finished().map_err(|error: io::Error| failed(&self.to, &error))
    }
}

/// Removes what a backup that was ended left, and nothing else of that name.
fn remove_unfinished(partial: &Path) -> Result<()> {
    let entries = match fs::read_dir(partial) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(partial, &error)),
    };
    for entry in entries {
        let name = entry.map_err(|error| failed(partial, &error))?.file_name();
        let name = name.to_string_lossy();
        if name != FILES && name != MANIFEST && !name.starts_with(DATABASE) {
            return refused(format!(
                "{}: it would be written there first, and there is something else: move it away, or name another --to",
                partial.join(&*name).display()
            ));
        }
    }
    fs::remove_dir_all(partial).map_err(|error| failed(partial, &error))
}

/// What several processes share is in the hands of PostgreSQL, Kafka and the file store.
fn refuse_shared(config: &Config) -> Result<()> {
    match config.store.kind {
        StoreKind::Sqlite => Ok(()),
        StoreKind::Postgres => refused(
            "store.kind is \"postgres\": back it up with PostgreSQL's own tools, and its files after it \
             (docs/scale-out.md, \"Backups\")"
                .to_owned(),
        ),
    }
}

fn digest_of(path: &Path) -> io::Result<Database> {
    let mut file = File::open(path)?;
    let mut sum = digest::Context::new(&digest::SHA256);
    let (mut piece, mut bytes) = (vec![0; 1024 * 1024], 0);
    loop {
        let count = file.read(&mut piece)?;
        let Some(read) = piece.get(..count).filter(|read| !read.is_empty()) else {
            break;
        };
        sum.update(read);
        bytes += count as u64;
    }
    let sha256 = hex(sum.finish().as_ref());
    Ok(Database { bytes, sha256 })
}

fn blobs(dir: &Path) -> Result<Blobs> {
    Blobs::open(dir).map_err(|error| failed(dir, &error))
}

fn failed(path: &Path, error: &io::Error) -> BackupError {
    BackupError(format!("{}: {error}", path.display()))
}

fn unreadable(path: &Path, error: &StoreError) -> BackupError {
    BackupError(format!("{}: {error}", path.display()))
}

fn refused<T>(why: String) -> Result<T> {
    Err(BackupError(why))
}
