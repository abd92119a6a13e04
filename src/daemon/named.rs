//! What a configuration names that has to be there when a process starts: secrets, certificates, directories. What is
//! missing is a mistake in the configuration, said all at once, by a start and by whoever only checks it.

use std::io;
use std::path::Path;

use rustix::fs::{Access, access};

use crate::config::{Config, ConfigErrors};

/// Refuses a configuration whose store or bus names what is not there, or cannot be used.
pub fn refuse_missing(config: &Config) -> Result<(), ConfigErrors> {
    let mut errors = ConfigErrors::default();
    #[cfg(feature = "postgres")]
    if config.store.kind == crate::config::StoreKind::Postgres {
        if let Err(found) = super::shared::database(config) {
            note(&mut errors, found, config, "store");
        }
        if let Err(found) = super::files::bucket_of(config, &config.server.data_dir) {
            errors.extend(found);
        }
    }
    #[cfg(feature = "kafka")]
    if config.bus.kind == crate::config::BusKind::Kafka
        && let Err(found) = super::buses::settings(config)
    {
        note(&mut errors, found, config, "bus");
    }
    let key = "store.blobs_dir";
    if config.store.blobs_url.is_none()
        && let Some(dir) = &config.store.blobs_dir
        && let Err(error) = takes_files(dir)
    {
        let wrong = format!(
            "{}: {error}: it has to be a directory that this user may write in (install -d -o USER {0})",
            dir.display()
        );
        errors.push(config.origin(key), key, wrong);
    }
    errors.unless_any(())
}

#[cfg(any(feature = "kafka", feature = "postgres"))]
fn note(errors: &mut ConfigErrors, found: super::StartError, config: &Config, section: &str) {
    match found {
        super::StartError::Config(found) => errors.extend(found),
        other => errors.push(config.origin(section), "", other.to_string()),
    }
}

/// Whether files can be made in a directory, or it can be made itself.
fn takes_files(dir: &Path) -> io::Result<()> {
    let there = dir.ancestors().find(|dir| dir.exists());
    let there = there.ok_or(io::ErrorKind::NotFound)?;
    if !there.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(there, Access::WRITE_OK | Access::EXEC_OK)?)
}
