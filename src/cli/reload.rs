//! `reload`: the running daemon reads its configuration again, and says what came of it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use connector_api::Registration;

use crate::config::{self, Sources};
use crate::daemon::control::status::Status;
use crate::daemon::control::{Answer, Request, ask, is_up};

use super::control::print_value;
use super::{CommandResult, Common, EXIT_CONFIG, Failure, runtime};

pub fn run(common: &Common, registrations: &[Registration]) -> CommandResult {
    // The daemon says what is wrong: only it knows its flags and its environment.
    let (data_dir, meant) = match &common.data_dir {
        Some(dir) => (dir.clone(), common.config.as_ref().and(common.file())),
        None => {
            let sources = Sources::of_process(common.file(), Vec::new());
            match config::data_dir(&sources, registrations) {
                Some(dir) => (dir, common.file()),
                None => {
                    let config = common.load(Vec::new(), registrations)?;
                    (config.server.data_dir, common.file())
                }
            }
        }
    };
    runtime()?.block_on(async {
        if !is_up(&data_dir).await {
            // Then this is the only one to say what is wrong with the file.
            common.load(Vec::new(), registrations)?;
        }
        if let Some(meant) = meant {
            is_the_daemons(&data_dir, &meant).await?;
        }
        match ask(&data_dir, &Request::Reload).await {
            Some(Answer::Result(changes)) => {
                print_value(&changes)?;
                Ok(ExitCode::SUCCESS)
            }
            Some(Answer::Error(wrong)) => Err(Failure {
                code: EXIT_CONFIG,
                text: format!("{wrong}\nnothing has changed: correct this, then reload again"),
            }),
            None => Err(nobody(&data_dir)),
        }
    })
}

/// A daemon reads the file that it was started with; another one would be passed over in silence.
async fn is_the_daemons(data_dir: &Path, meant: &Path) -> Result<(), Failure> {
    let status = match ask(data_dir, &Request::Status).await {
        Some(Answer::Result(value)) => serde_json::from_value::<Status>(value),
        Some(Answer::Error(error)) => return Err(Failure::new(error)),
        None => return Err(nobody(data_dir)),
    };
    let status =
        status.map_err(|error| Failure::new(format!("reading the daemon's answer: {error}")))?;
    if same_file(status.config_file.as_deref(), meant) {
        return Ok(());
    }
    let reads = match status.config_file {
        Some(file) => format!("reads {}", file.display()),
        None => "was started without a configuration file".to_owned(),
    };
    let meant = meant.display();
    Err(Failure::new(format!(
        "nothing was read again: the daemon on {} (process {}) {reads}, and not {meant}; change what \
         it reads, or start it again with --config {meant}",
        data_dir.display(),
        status.pid
    )))
}

/// Whether both are one file, by whatever way they are named.
pub fn same_file(left: Option<&Path>, right: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    left.is_some_and(|left| real(left) == real(right))
}

fn nobody(data_dir: &Path) -> Failure {
    Failure::new(format!(
        "no daemon runs on {}: start it, or name its data directory (--data-dir)",
        data_dir.display()
    ))
}
