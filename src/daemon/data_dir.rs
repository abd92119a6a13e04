//! The data directory: made with its owner's rights only, and held against a second daemon.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::StartError;

/// Says where the installation was moved to that was here.
const MOVED_FILE: &str = "moved";
const MOVED_NEXT: &str = "moved.next";

/// The data directory, held against a second daemon.
pub struct DataDir {
    pub path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory where it is missing, readable by its owner only, and locks it.
    pub fn hold(path: &Path) -> Result<Self, StartError> {
        let failed = |error| StartError::DataDir {
            path: path.to_owned(),
            error,
        };
        fs::create_dir_all(path).map_err(failed)?;
        restrict(path).map_err(failed)?;
        let lock = File::options()
            .create(true)
            .append(true)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StartError::DataDirInUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Marks it as moved to another installation: nobody starts it again by mistake.
    pub fn mark_moved(&self, to: &str) -> io::Result<()> {
        let (path, next) = (self.path.join(MOVED_FILE), self.path.join(MOVED_NEXT));
        let mut file = File::create(&next)?;
        writeln!(file, "{to}")?;
        file.sync_all()?;
        fs::rename(next, path)?;
        File::open(&self.path)?.sync_all()
    }

    /// Where it was moved to, if it was, and nobody went back since.
    pub fn moved_to(&self) -> Result<Option<String>, StartError> {
        match fs::read_to_string(self.path.join(MOVED_FILE)) {
            Ok(to) => Ok(Some(to.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// It is the one that runs again.
    pub fn unmark_moved(&self) -> Result<(), StartError> {
        let removed = fs::remove_file(self.path.join(MOVED_FILE));
        removed.map_err(|error| self.failed(error))
    }

    /// What to do about it.
    pub fn refusal_of_moved(&self, to: &str) -> String {
        let dir = self.path.display();
        format!(
            "{dir}: this installation was moved to {to}: started here, it would send what waits in its outbox a second \
             time. To go back, stop the new one. Where that has accepted and sent nothing, remove {dir}/{MOVED_FILE} and \
             start this one; otherwise start it with `switchboard run --restored`, which holds what is unsent for a \
             person"
        )
    }

    fn failed(&self, error: io::Error) -> StartError {
        StartError::DataDir {
            path: self.path.clone(),
            error,
        }
    }
}

fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}
