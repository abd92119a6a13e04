//! A failed fsync ends the process: what the kernel dropped is not on disk, whatever the next one
//! says. The failure is made under the real SQLite, by a library that is loaded before libc.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use switchboard::store::sqlite::SqliteStore;

use super::preload;
use crate::peers::wait_for;

/// Fails to sync the database file, not its log, from when a file named by the environment is
/// there. Only a checkpoint syncs it.
const FAILING: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    char link[64], path[4096];
    const char *when = getenv("FSYNC_FAILS_WHEN");
    if (when == NULL || access(when, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 3) return 0;
    path[length] = 0;
    return strcmp(path + length - 3, ".db") == 0;
}

int fsync(int fd) {
    if (fails(fd)) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    if (fails(fd)) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"#;

/// More than the log may hold before it is checkpointed.
const WRITTEN_BYTES: usize = 40 * 1024 * 1024;
const SIGABRT: i32 = 6;
/// How long the other process waits for its end.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_failed_fsync_of_a_checkpoint_ends_the_process() {
    const INSIDE: &str = "FSYNC_TEST_DIR";
    if let Some(dir) = std::env::var_os(INSIDE) {
        return write_until_checkpointed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let library = preload::library(dir.path(), FAILING);
    // This very test, in a process of its own.
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::a_failed_fsync_of_a_checkpoint_ends_the_process");
    let ended = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .env(INSIDE, dir.path())
        .env("FSYNC_FAILS_WHEN", dir.path().join("now"))
        .env("LD_PRELOAD", &library)
        .output()
        .unwrap();
    assert_eq!(
        ended.status.signal(),
        Some(SIGABRT),
        "{}\n{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
}

/// What the other process does; it ends well where nothing ends it.
fn write_until_checkpointed(dir: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = SqliteStore::open(dir, &[], &[]).unwrap();
    let write = |sql: String| {
        let work = store.writer();
        runtime.block_on(work.run(0, move |tx| Ok(tx.conn.batch(&sql)?)))
    };
    std::fs::write(dir.join("now"), "").unwrap();
    write("CREATE TABLE probe (value BLOB)".to_owned()).expect("the log is synced");
    write(format!(
        "INSERT INTO probe VALUES (zeroblob({WRITTEN_BYTES}))"
    ))
    .expect("it still is");
    wait_for::<()>("the process to be ended", PATIENCE, || None);
}
