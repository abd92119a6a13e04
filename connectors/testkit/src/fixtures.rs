//! Golden files: every captured item of `tests/fixtures` with the events that it makes, beside it
//! as `<name>.snap`. `UPDATE=1 cargo test` writes them; a person reads the difference.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use connector_api::{AttachmentBody, Event, InboundEvent};
use serde_json::{Value, json};

/// Bytes of an attachment that a golden file shows.
const SHOWN_BYTES_MAX: usize = 32;

/// The events as JSON, with the bytes of attachments (which have no JSON form) described.
pub fn show_events(events: &[InboundEvent]) -> Value {
    let shown = events.iter().map(|event| {
        let mut event = event.clone();
        let raw_bytes = event.raw.as_ref().map(|raw| raw.len());
        if let Event::Message(message) | Event::Echo(message) = &mut event.event {
            for attachment in &mut message.attachments {
                if let AttachmentBody::Bytes(bytes) = &attachment.body {
                    let start = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes).escape_ascii();
                    let reference = format!("{} bytes in hand: {start}", bytes.len());
                    attachment.body = AttachmentBody::Reference { reference };
                }
            }
        }
        let mut shown =
            serde_json::to_value(&event).expect("events without bytes have a JSON form");
        if let Some(raw_bytes) = raw_bytes {
            shown["raw_bytes"] = json!(raw_bytes);
        }
        shown
    });
    shown.collect()
}

/// Compares `found` with the file, or writes the file where `UPDATE` is set.
pub fn check_golden(file: &Path, found: &str) -> Result<(), String> {
    let shown = file.display();
    if std::env::var_os("UPDATE").is_some() {
        return write_whole(file, found);
    }
    let expected = fs::read_to_string(file)
        .map_err(|error| format!("cannot read {shown} (UPDATE=1 writes it): {error}"))?;
    if expected == found {
        return Ok(());
    }
    let mut lines = expected.lines().zip(found.lines());
    let place = lines.position(|(expected, found)| expected != found);
    let line = place.unwrap_or(expected.lines().count().min(found.lines().count()));
    Err(format!(
        "{shown} differs from line {}: expected {:?}, found {:?} (UPDATE=1 writes it)",
        line + 1,
        expected.lines().nth(line).unwrap_or("the end"),
        found.lines().nth(line).unwrap_or("the end"),
    ))
}

/// Writes a file so that a test beside this one reads the old text or the new, never half of it.
pub(crate) fn write_whole(file: &Path, text: &str) -> Result<(), String> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}-{count}.new", std::process::id()));
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, file))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// The captured items of a connector's crate, sorted by name.
pub(crate) fn fixtures(manifest_dir: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = manifest_dir.join("tests/fixtures");
    let entries = fs::read_dir(&folder)
        .map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files.retain(|path| path.extension().is_none_or(|extension| extension != "new"));
    let is_golden = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "snap")
    };
    let (golden, items): (Vec<_>, Vec<_>) = files.into_iter().partition(is_golden);
    for file in golden {
        if !items.contains(&file.with_extension("")) {
            return Err(format!("{} belongs to no fixture", file.display()));
        }
    }
    match items.is_empty() {
        true => Err(format!("{} has no fixtures", folder.display())),
        false => Ok(items),
    }
}

/// `m-1.json` has its events in `m-1.json.snap`.
pub(crate) fn golden_of(item: &Path) -> PathBuf {
    let mut name = item.as_os_str().to_owned();
    name.push(".snap");
    name.into()
}
