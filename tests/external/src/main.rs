//! The daemon, with one more connector.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchboard::run_with(&[pager_connector::REGISTRATION])
}
