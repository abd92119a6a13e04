//! One process whose calls of the kernel fail: an fsync that failed ends it, whatever else fails is refused and goes on. A library
//! that is loaded before libc makes them fail: each once, at a call that is told by the name of its file and counted over all threads.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::crowd::Crowd;
use super::{Slices, full};
use crate::daemon::preload;
use crate::daemon::process::{Installation, PATIENCE};
use crate::peers::wait_until;

/// The first to the so-many-th call of its kind fails.
const NTH_MAX: u64 = 4;
/// Everybody writes for as long before the fault is set.
const FAILS_WITHIN_MS: u64 = 200;
const SIGABRT: i32 = 6;
/// After so many all of it is counted.
const COMPARED_EVERY: usize = 4;

/// The file named by `FAULT` says what fails: its number, the call, a part of the file's name, errno (0: only half of it is
/// written), and the how-manieth such call. It is removed once that happened.
const FAILING: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NONE -1
#define REAL(name, ...) ((__typeof__(name) *) dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long known = -1, calls = 0;

/* The errno that this call fails with; NONE: it does not. */
static int fails(const char *call, const char *path) {
    const char *fault = getenv("FAULT");
    char text[512], of[32], part[256];
    long number, nth;
    int error, result = NONE;
    if (fault == NULL) return NONE;
    int fd = syscall(SYS_openat, AT_FDCWD, fault, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NONE;
    ssize_t length = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (length <= 0) return NONE;
    text[length] = 0;
    if (sscanf(text, "%ld %31s %255s %d %ld", &number, of, part, &error, &nth) != 5) return NONE;
    if (strcmp(of, call) != 0 || strstr(path, part) == NULL) return NONE;
    pthread_mutex_lock(&lock);
    if (number != known && access(fault, F_OK) == 0) { known = number; calls = 0; }
    if (number == known && ++calls == nth) { result = error; unlink(fault); }
    pthread_mutex_unlock(&lock);
    return result;
}

static int fails_at(const char *call, int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return NONE;
    path[length] = 0;
    /* A directory ends as its name in the fault does. */
    strcat(path, "$");
    return fails(call, path);
}

int fsync(int fd) {
    int error = fails_at("fsync", fd);
    if (error != NONE) { errno = error; return -1; }
    return REAL(fsync, fd);
}

int fdatasync(int fd) {
    int error = fails_at("fsync", fd);
    if (error != NONE) { errno = error; return -1; }
    return REAL(fdatasync, fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    int error = fails_at("write", fd);
    if (error > 0) { errno = error; return -1; }
    return REAL(write, fd, bytes, error == 0 && count > 1 ? count / 2 : count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    int error = fails_at("pwrite", fd);
    if (error > 0) { errno = error; return -1; }
    return REAL(pwrite64, fd, bytes, error == 0 && count > 1 ? count / 2 : count, at);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    int error = fails("open", path);
    if (error != NONE) { errno = error; return -1; }
    return REAL(open64, path, flags, mode);
}

int rename(const char *from, const char *to) {
    int error = fails("rename", to);
    if (error != NONE) { errno = error; return -1; }
    return REAL(rename, from, to);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    int error = fails("accept", "socket");
    if (error != NONE) { errno = error; return -1; }
    return REAL(accept4, fd, address, length, flags);
}
"#;

/// What the daemon does.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// It ends itself: what the kernel dropped is not on disk, whatever the next fsync says.
    Ends,
    /// What needed the call is refused, and the next one goes well.
    GoesOn,
}
use Then::{Ends, GoesOn};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const ECONNABORTED: i32 = 103;
/// No error: only half of what should be written is.
const HALF: i32 = 0;

/// What fails: its name, the call, which file, how, and then.
type Fault = (&'static str, &'static str, &'static str, i32, Then);

const FAULTS: [Fault; 14] = [
    (
        "fsync of the log",
        "fsync",
        "switchboard.db-wal$",
        EIO,
        Ends,
    ),
    ("fsync of a file", "fsync", ".part$", EIO, Ends),
    ("fsync of a shelf", "fsync", "/blobs/", EIO, Ends),
    ("fsync of the shelves", "fsync", "/blobs$", EIO, Ends),
    (
        "write of the log, EIO",
        "pwrite",
        "switchboard.db-wal$",
        EIO,
        GoesOn,
    ),
    (
        "write of the log, ENOSPC",
        "pwrite",
        "switchboard.db-wal$",
        ENOSPC,
        GoesOn,
    ),
    (
        "half a write of the log",
        "pwrite",
        "switchboard.db-wal$",
        HALF,
        GoesOn,
    ),
    ("write of a file, EIO", "write", ".part$", EIO, GoesOn),
    ("half a write of a file", "write", ".part$", HALF, GoesOn),
    ("open of a file", "open", ".part", EMFILE, GoesOn),
    ("open of a shelf", "open", "/data/blobs/", EIO, GoesOn),
    ("rename of a file", "rename", "/blobs/", EIO, GoesOn),
    ("accept, EMFILE", "accept", "socket", EMFILE, GoesOn),
    (
        "accept, ECONNABORTED",
        "accept",
        "socket",
        ECONNABORTED,
        GoesOn,
    ),
];

#[test]
fn a_failed_fsync_ends_the_process_and_whatever_else_fails_loses_nothing() {
    let slices = Slices {
        name: "io-errors",
        count: 5,
        seed: 5_401,
        trials: if full() { 20 } else { FAULTS.len() },
    };
    slices.run(|seed| slice(seed, slices.trials));
}

fn slice(seed: u64, faults: usize) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let injector = Injector {
        library: preload::library(dir.path(), FAILING),
        fault: dir.path().join("fault"),
    };
    let crowd = Crowd::gather(seed, |_| ());
    assert!(crowd.daemon.terminate());
    injector.run(&crowd.daemon);
    // Slices begin at different ones: each comes as often.
    let turns = (seed as usize * faults..).take(faults);
    for (trial, turn) in turns.enumerate() {
        let fault = FAULTS[turn % FAULTS.len()];
        trial_of(&crowd, &injector, trial, fault);
        crowd.count(fault.0);
        if trial % COMPARED_EVERY == COMPARED_EVERY - 1 || trial + 1 == faults {
            crowd.compare(&format!("trial {trial}, {}", fault.0));
        }
    }
    let expected: Vec<&str> = match full() {
        true => vec!["refused"],
        false => FAULTS.iter().map(|fault| fault.0).collect(),
    };
    crowd.end(&expected)
}

struct Injector {
    library: PathBuf,
    fault: PathBuf,
}

impl Injector {
    fn run(&self, daemon: &Installation) {
        let word = |path: &Path| path.to_str().expect("a name").to_owned();
        let (library, fault) = (word(&self.library), word(&self.fault));
        daemon.run_in(&[("LD_PRELOAD", &library), ("FAULT", &fault)]);
    }
}

fn trial_of(crowd: &Crowd, injector: &Injector, trial: usize, fault: Fault) {
    let (name, call, file, error, then) = fault;
    crowd.while_they_write(|| {
        std::thread::sleep(Duration::from_millis(crowd.chance(FAILS_WITHIN_MS)));
        let nth = 1 + crowd.chance(NTH_MAX);
        let beside = injector.fault.with_extension("next");
        let line = format!("{trial} {call} {file} {error} {nth}\n");
        fs::write(&beside, line).expect("a fault");
        fs::rename(beside, &injector.fault).expect("a fault");
        wait_until(&format!("{name}, number {nth}"), PATIENCE, || {
            // Nobody else connects while connections are kept alive.
            if call == "accept" {
                drop(std::net::TcpStream::connect(&crowd.daemon.address));
            }
            !injector.fault.exists()
        });
        if then == Ends {
            let ended = crowd.daemon.wait_for_end();
            if ended.signal() != Some(SIGABRT) {
                crowd.violated(format!("{name}, number {nth}: it ended with {ended}"));
            }
            injector.run(&crowd.daemon);
        }
        let acknowledged = crowd.manifest().acknowledged();
        wait_until("messages to be taken again", PATIENCE, || {
            crowd.manifest().acknowledged() > acknowledged
        });
    });
}
