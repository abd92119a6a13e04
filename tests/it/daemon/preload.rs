//! Libraries that are loaded before libc, so that a call fails under the real SQLite.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the C source of one, for `LD_PRELOAD`.
pub fn library(dir: &Path, source: &str) -> PathBuf {
    let (file, library) = (dir.join("failing.c"), dir.join("failing.so"));
    std::fs::write(&file, source).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &file])
        .args(["-ldl", "-lpthread"])
        .status()
        .expect("a C compiler, as for building");
    assert!(compiled.success());
    library
}
