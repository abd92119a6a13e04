//! The machine: data directory, disk, clock, files with secrets.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use connector_api::{Clock, SecretRef};
use serde_json::Value;
use tokio::time::Instant;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::daemon::control::status::Status;
use crate::daemon::tls_files;
use crate::words::counted;

use super::Finding;

/// Free space below which it is said, and below which messages may soon be refused.
const FREE_WARN_BYTES: u64 = 5 * 1024 * 1024 * 1024;
const FREE_FAIL_BYTES: u64 = 512 * 1024 * 1024;
const INODES_WARN: u64 = 10_000;
/// Measured fsyncs; their median above this makes a commit slow to feel.
const FSYNCS: usize = 20;
const FSYNC_WARN: Duration = Duration::from_millis(30);
/// Files from the future by more than this mean that the clock went back.
const CLOCK_SLACK: Duration = Duration::from_secs(120);
/// Files of the data directory that are looked at.
const ENTRIES_MAX: usize = 1_000;

type Running = Result<Option<Status>, String>;

pub fn look(config: &Config, status: &Running) -> Vec<Finding> {
    let dir = &config.server.data_dir;
    let mut findings = Vec::new();
    match fs::metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => findings.push(Finding::warn(
            "data_dir",
            format!("{} is not there", dir.display()),
            "the first start makes it; if there should be one, server.data_dir names another",
        )),
        Err(error) => findings.push(Finding::fail(
            "data_dir",
            format!("{}: {error}", dir.display()),
            "run this as the user of the daemon",
        )),
        Ok(found) if !found.is_dir() => findings.push(Finding::fail(
            "data_dir",
            format!("{} is no directory", dir.display()),
            "name a directory in server.data_dir",
        )),
        Ok(found) => {
            findings.push(owner(dir, &found, status));
            findings.push(writing(dir));
            findings.push(space(dir));
        }
    }
    findings.push(clock(dir));
    findings.push(secrets(config));
    findings
}

/// Customers' messages are nobody else's to read.
fn owner(dir: &Path, found: &fs::Metadata, status: &Running) -> Finding {
    let shown = dir.display();
    let uid = match status {
        Ok(Some(status)) => status.uid,
        _ => rustix::process::geteuid().as_raw(),
    };
    let mode = found.mode() & 0o777;
    if found.uid() != uid {
        let whose = match status {
            Ok(Some(_)) => "the daemon runs as user",
            _ => "this command runs as user",
        };
        return Finding::fail(
            "data_dir",
            format!("{shown} belongs to user {}, and {whose} {uid}", found.uid()),
            "give it to the daemon's user, and run these commands as that one",
        );
    }
    if mode & 0o077 != 0 {
        return Finding::fail(
            "data_dir",
            format!("{shown} can be entered by others (mode {mode:o})"),
            format!("chmod 700 {shown}"),
        );
    }
    Finding::ok("data_dir", format!("{shown}, its owner's only"))
}

/// Writes and syncs as a commit does.
fn writing(dir: &Path) -> Finding {
    let failed = |error: std::io::Error| {
        Finding::fail(
            "disk_sync",
            format!("writing into {}: {error}", dir.display()),
            "make it writable for the daemon's user, and look whether the disk is full or read-only",
        )
    };
    let path = dir.join(format!("doctor-{}", std::process::id()));
    let measured = measure(&path);
    if let Err(error) = fs::remove_file(&path)
        && measured.is_ok()
    {
        return failed(error);
    }
    let mut took = match measured {
        Ok(took) => took,
        Err(error) => return failed(error),
    };
    took.sort_unstable();
    let at = |part: usize| took.get(part).copied().unwrap_or_default();
    let (median, worst) = (at(FSYNCS / 2), at(FSYNCS - 1));
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let detail = format!(
        "an fsync takes {:.1} ms (worst of {FSYNCS}: {:.1} ms)",
        ms(median),
        ms(worst)
    );
    match median > FSYNC_WARN {
        true => Finding::warn(
            "disk_sync",
            detail,
            "every answer to a webhook waits for one: use a local SSD, no network file system",
        ),
        false => Finding::ok("disk_sync", detail),
    }
}

fn measure(path: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = File::create_new(path)?;
    let page = [0x5a; 4096];
    let mut took = Vec::with_capacity(FSYNCS);
    for _ in 0..FSYNCS {
        let began = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    Ok(took)
}

fn space(dir: &Path) -> Finding {
    let found = match rustix::fs::statvfs(dir) {
        Ok(found) => found,
        Err(error) => {
            let hint = "look at the file system of the data directory";
            return Finding::fail("disk_space", error.to_string(), hint);
        }
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let gib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0 * 1024.0);
    let total = found.f_blocks.saturating_mul(found.f_frsize);
    let detail = format!("{:.1} of {:.1} GiB are free", gib(free), gib(total));
    let hint = "make room or move the data directory: without space every message is refused";
    // A file system without inodes of its own says 0 of 0.
    let few_inodes = found.f_files > 0 && found.f_favail < INODES_WARN;
    match free {
        0..FREE_FAIL_BYTES => Finding::fail("disk_space", detail, hint),
        FREE_FAIL_BYTES..FREE_WARN_BYTES => Finding::warn("disk_space", detail, hint),
        _ if few_inodes => {
            let detail = format!("{} inodes are free", found.f_favail);
            Finding::warn("disk_space", detail, hint)
        }
        _ => Finding::ok("disk_space", detail),
    }
}

/// Signatures, leases and retention go by it.
fn clock(dir: &Path) -> Finding {
    let now = SystemTime::from(SystemClock.now());
    let newest = fs::read_dir(dir).ok().and_then(|entries| {
        let times = entries.take(ENTRIES_MAX).filter_map(|entry| {
            let found = entry.ok()?.metadata().ok()?;
            found.modified().ok()
        });
        times.max()
    });
    let ahead = newest.and_then(|newest| newest.duration_since(now).ok());
    if let Some(ahead) = ahead.filter(|ahead| *ahead > CLOCK_SLACK) {
        return Finding::fail(
            "clock",
            format!(
                "it is {} s behind the newest file of the data directory",
                ahead.as_secs()
            ),
            "set the clock; webhook signatures are refused when it is off by 300 s",
        );
    }
    match synchronised() {
        Some(true) => Finding::ok("clock", "synchronised"),
        Some(false) => Finding::warn(
            "clock",
            "it is not synchronised",
            "run chrony or systemd-timesyncd; webhook signatures are refused when it is off by 300 s",
        ),
        None => Finding::ok(
            "clock",
            "not behind its files; whether it is synchronised cannot be read here",
        ),
    }
}

/// What the machine says about NTP, where it says anything.
fn synchronised() -> Option<bool> {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    if let Some(text) = said("chronyc", &["-c", "tracking"]) {
        return Some(!text.trim_end().ends_with("Not synchronised"));
    }
    let text = said(
        "timedatectl",
        &["show", "--property=NTPSynchronized", "--value"],
    )?;
    match text.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Files that hold secrets are for the daemon's user.
fn secrets(config: &Config) -> Finding {
    let mut files = Vec::new();
    for channel in config.channels.values() {
        named(&channel.settings, &mut files);
    }
    files.extend(tls_files(config).map(|files| files.key));
    let (store, bus) = (&config.store, &config.bus);
    let own = [
        &store.password,
        &store.blobs_access_key,
        &store.blobs_secret_key,
        &bus.password,
        &bus.client_secret,
    ];
    let own = own.into_iter().flatten();
    for secret in own.chain(bus.librdkafka_secrets.values()) {
        if let SecretRef::File(path) = secret {
            files.push(path.into());
        }
    }
    files.extend(bus.key_file.clone());
    files.sort();
    files.dedup();
    let mut open = Vec::new();
    for path in &files {
        match fs::metadata(path) {
            Ok(found) if found.mode() & 0o007 != 0 => open.push(path.display().to_string()),
            Ok(_) => {}
            Err(error) => {
                return Finding::fail(
                    "secrets",
                    format!("{}: {error}", path.display()),
                    "make the file readable for the daemon's user",
                );
            }
        }
    }
    match open.is_empty() {
        true => Finding::ok(
            "secrets",
            format!(
                "{}, none open to all",
                counted(files.len(), "file", "files")
            ),
        ),
        false => Finding::warn(
            "secrets",
            format!("everybody on this machine may read {}", open.join(", ")),
            format!("chmod o-rwx {}", open.join(" ")),
        ),
    }
}

/// The files of `{ file = "…" }` in a channel's settings.
fn named(value: &Value, files: &mut Vec<PathBuf>) {
    match value {
        Value::Object(map) => {
            if let (1, Some(Value::String(path))) = (map.len(), map.get("file")) {
                files.push(PathBuf::from(path));
            }
            map.values().for_each(|value| named(value, files));
        }
        Value::Array(items) => items.iter().for_each(|value| named(value, files)),
        _ => {}
    }
}
