//! `reload`: the running daemon reads its configuration again, and says what came of it.

use std::process::ExitCode;

use connector_api::Registration;

use crate::daemon::control::{Answer, Request, ask};

use super::control::print_value;
use super::{CommandResult, Common, EXIT_CONFIG, Failure, runtime};

pub fn run(common: &Common, registrations: &[Registration]) -> CommandResult {
    // The daemon says what is wrong: only it knows its flags and its environment.
    let data_dir = match &common.data_dir {
        Some(dir) => dir.clone(),
        None => common.load(Vec::new(), registrations)?.server.data_dir,
    };
    let answer = runtime()?.block_on(ask(&data_dir, &Request::Reload));
    match answer {
        Some(Answer::Result(changes)) => {
            print_value(&changes)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Answer::Error(wrong)) => Err(Failure {
            code: EXIT_CONFIG,
            text: wrong,
        }),
        None => Err(Failure::new(format!(
            "no daemon runs on {}: start it, or name its data directory (--data-dir)",
            data_dir.display()
        ))),
    }
}
