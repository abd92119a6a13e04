//! The `switchboard` binary: the command line with the built-in connectors.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchboard::run_with(&[])
}
