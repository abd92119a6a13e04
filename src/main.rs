//! The `switchboard` binary: the command line with the built-in connectors.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchboard::run_with(&[])
}

/// A message costs some hundred small allocations, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
