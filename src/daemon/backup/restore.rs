//! Putting a backup where an installation is to run. The database comes last, so that what was stopped half-way starts nowhere;
//! it comes without its `lineage`, so that its first start holds what it has unsent.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::config::Config;
use crate::store::sqlite::backup as copy;
use crate::store::sqlite::{SCHEMA_VERSION, database_path};

use super::{
    BackupError, Copying, DATABASE, FILES, FORMAT, MANIFEST, Manifest, Result, blobs, blobs_dir,
    digest_of, failed, refuse_shared, refused, unreadable,
};
use crate::daemon::DataDir;

/// What was restored, or could be.
#[derive(Debug, Serialize)]
pub struct Restored {
    #[serde(flatten)]
    pub manifest: Manifest,
    /// False where it was only looked at.
    pub restored: bool,
}

/// Checks all of a backup and, unless it is only looked at, puts it into the data directory.
pub async fn restore(
    config: &Config,
    from: &Path,
    only_look: bool,
    tell: &dyn Fn(&str),
) -> Result<Restored> {
    refuse_shared(config)?;
    let manifest = read(from)?;
    let database = from.join(DATABASE);
    tell("reading the backup");
    let found = digest_of(&database).map_err(|error| failed(&database, &error))?;
    if found != manifest.database {
        return refused(format!(
            "{}: it is not what the backup's {MANIFEST} says: it was changed or cut short; take another backup",
            database.display()
        ));
    }
    let held = copy::held(&database).map_err(|error| unreadable(&database, &error))?;
    let kept = blobs(&from.join(FILES))?;
    let reading = Copying {
        from: kept.clone(),
        to: kept.clone(),
    };
    let whole = reading.compare(&held.files, tell).await;
    whole.map_err(|why| BackupError(format!("{why}; take another backup")))?;
    if only_look {
        return Ok(Restored {
            manifest,
            restored: false,
        });
    }
    let data_dir = &config.server.data_dir;
    let target = database_path(data_dir);
    let dir = DataDir::hold(data_dir).map_err(|error| BackupError(error.to_string()))?;
    if let [left, ..] = copy::left_of_a_database(data_dir).as_slice() {
        return refused(format!(
            "{}: an installation is here already, or the rest of one: move the directory away first, or name another one \
             (server.data_dir or --data-dir)",
            left.display()
        ));
    }
    let copying = Copying {
        from: kept,
        to: blobs(&blobs_dir(config, data_dir))?,
    };
    copying.copy(&held.files, tell).await?;
    copying.compare(&held.files, tell).await?;
    put(&database, &target, &manifest, &dir)?;
    Ok(Restored {
        manifest,
        restored: true,
    })
}

fn read(from: &Path) -> Result<Manifest> {
    let path = from.join(MANIFEST);
    let text = fs::read(&path).map_err(|error| {
        BackupError(format!(
            "{}: {error}: name a directory that switchboard backup made; one without {MANIFEST} was not finished",
            path.display()
        ))
    })?;
    #[derive(serde::Deserialize)]
    struct Of {
        format: u32,
        #[serde(default)]
        version: String,
    }
    let unread = |error: serde_json::Error| {
        BackupError(format!(
            "{}: {error}: it is damaged; take another backup",
            path.display()
        ))
    };
    let of: Of = serde_json::from_slice(&text).map_err(unread)?;
    if of.format != FORMAT {
        return refused(format!(
            "{}: its format is {}, this build knows {FORMAT}: take switchboard {} or later",
            path.display(),
            of.format,
            of.version
        ));
    }
    let manifest: Manifest = serde_json::from_slice(&text).map_err(unread)?;
    match manifest.schema > SCHEMA_VERSION {
        false => Ok(manifest),
        true => refused(format!(
            "{}: its tables have version {}, this build knows {SCHEMA_VERSION}: take switchboard {} or later",
            path.display(),
            manifest.schema,
            manifest.version
        )),
    }
}

/// The database gets its name once it is whole.
fn put(from: &Path, target: &Path, manifest: &Manifest, dir: &DataDir) -> Result<()> {
    let beside = target.with_extension("db.partial");
    let placed = || {
        fs::copy(from, &beside)?;
        fs::File::open(&beside)?.sync_all()?;
        digest_of(&beside)
    };
    let placed = placed().map_err(|error| failed(&beside, &error))?;
    if placed != manifest.database {
        return refused(format!(
            "{}: what was written is not what was read: look at the disk",
            beside.display()
        ));
    }
    let named = || {
        copy::forget_lineage(&dir.path)?;
        fs::rename(&beside, target)?;
        fs::File::open(&dir.path)?.sync_all()
    };
    named().map_err(|error| failed(target, &error))
}
