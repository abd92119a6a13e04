//! `hold`, `export`, `erase`, `erasures`: what is kept of one person.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use connector_api::Registration;
use serde_json::Value;

use crate::api::export::{ExportedFile, Place};
use crate::daemon::control::Request;

use super::control::{Desk, carry_out, print_value};
use super::{CommandResult, Common, Failure, runtime};

/// How often an erasure is looked at until it is done.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The document's name in the directory.
const DOCUMENT: &str = "export.json";

#[derive(Args)]
pub struct Hold {
    /// Id of the contact, `con_…`
    contact: String,
    /// Why, in one line: a file number rather than a name
    #[arg(long, required_unless_present = "lift", conflicts_with = "lift")]
    reason: Option<String>,
    /// Lift the hold
    #[arg(long)]
    lift: bool,
}

#[derive(Args)]
#[command(after_help = "\
The directory gets export.json, as /export.schema.json describes it, and attachments/ with the files that it names. It \
is made under another name and renamed when everything is in it.")]
pub struct Export {
    /// Id of the contact, `con_…`
    contact: String,
    /// Directory to make
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

#[derive(Args)]
#[command(after_help = "\
It begins at once where a daemon runs, else when it starts next, and goes on over restarts. This prints the report when \
it is done.")]
pub struct Erase {
    /// Id of the contact, `con_…`
    contact: String,
    /// Why, in one line: a file number rather than a name; it stays in the report
    #[arg(long)]
    reason: String,
    /// Do not wait for it
    #[arg(long)]
    no_wait: bool,
}

#[derive(Args)]
pub struct Erasures {
    /// Id of one, `era_…` [default: all, the newest first]
    id: Option<String>,
}

impl Erase {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let report = runtime()?.block_on(async {
            let desk = Desk::open(&config, registrations, None).await?;
            let Self {
                contact, reason, ..
            } = self;
            let mut report = desk.ask(Request::EraseContact { contact, reason }).await?;
            let runs = matches!(desk, Desk::Daemon(_));
            let is_open = |report: &Value| report.get("done_at").is_none_or(Value::is_null);
            while runs && !self.no_wait && is_open(&report) {
                tokio::time::sleep(LOOK_EVERY).await;
                let before = report.get("waits_for").cloned();
                let id: String = read(&report, "id")?;
                report = desk.ask(Request::Erasures { id: Some(id) }).await?;
                let waits = report.get("waits_for");
                if let Some(why) = waits
                    .filter(|_| waits != before.as_ref())
                    .and_then(Value::as_str)
                {
                    eprintln!("waiting: {why}");
                }
            }
            if !runs {
                eprintln!("no daemon runs here: it is erased once one does");
            }
            Ok::<_, Failure>(report)
        })?;
        print_value(&report)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Erasures {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let request = Request::Erasures { id: self.id };
        print_value(&carry_out(&config, registrations, &request)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Hold {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let request = Request::HoldContact {
            contact: self.contact,
            reason: self.reason,
        };
        print_value(&carry_out(&config, registrations, &request)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Export {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        if self.to.exists() {
            let there = format!(
                "{} is there already: name another directory",
                self.to.display()
            );
            return Err(Failure::new(there));
        }
        let mut part = self.to.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let failed =
            |error: std::io::Error| Failure::new(format!("writing {}: {error}", part.display()));
        DirBuilder::new()
            .mode(0o700)
            .create(&part)
            .map_err(failed)?;
        let files = runtime()?.block_on(async {
            let desk = Desk::open(&config, registrations, None).await?;
            write_all(&desk, &self.contact, &part).await
        });
        match files {
            Ok(files) => {
                fs::rename(&part, &self.to).map_err(failed)?;
                println!("{DOCUMENT} and {files} files are in {}", self.to.display());
                Ok(ExitCode::SUCCESS)
            }
            Err(failure) => {
                // Half of an export is nobody's to find.
                fs::remove_dir_all(&part).map_err(failed)?;
                Err(failure)
            }
        }
    }
}

/// Writes the document and its files; how many these are.
async fn write_all(desk: &Desk, contact: &str, dir: &Path) -> Result<u64, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("writing {}: {error}", dir.display()));
    let mut document = File::create_new(dir.join(DOCUMENT)).map_err(failed)?;
    let (mut place, mut files): (Option<Place>, u64) = (None, 0);
    loop {
        let contact = contact.to_owned();
        let answer = desk.ask(Request::ExportContact { contact, place }).await?;
        let text = answer
            .get("text")
            .and_then(Value::as_str)
            .unwrap_or_default();
        document.write_all(text.as_bytes()).map_err(failed)?;
        let named: Vec<ExportedFile> = read(&answer, "files")?;
        for file in named {
            write_file(desk, &file, dir).await?;
            files += 1;
        }
        place = read(&answer, "next")?;
        if place.is_none() {
            document.sync_all().map_err(failed)?;
            return Ok(files);
        }
    }
}

async fn write_file(desk: &Desk, named: &ExportedFile, dir: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("writing {}: {error}", named.path));
    let relative = Path::new(&named.path);
    if !(relative.components()).all(|part| matches!(part, Component::Normal(_))) {
        return Err(failed(std::io::Error::other(
            "it leads out of the directory",
        )));
    }
    let path = dir.join(relative);
    let dir = path.parent().unwrap_or(dir);
    (DirBuilder::new().recursive(true).mode(0o700).create(dir)).map_err(failed)?;
    let mut file = File::create_new(&path).map_err(failed)?;
    let mut from = 0;
    loop {
        let id = named.id.clone();
        let answer = desk.ask(Request::ExportFile { id, from }).await?;
        let piece: String = read(&answer, "base64")?;
        let piece = STANDARD.decode(piece).map_err(Failure::new)?;
        if piece.is_empty() {
            return file.sync_all().map_err(failed);
        }
        file.write_all(&piece).map_err(failed)?;
        from += piece.len() as u64;
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: &Value, key: &str) -> Result<T, Failure> {
    let value = answer.get(key).cloned().unwrap_or_default();
    let read = serde_json::from_value(value);
    read.map_err(|error| Failure::new(format!("reading the answer: {error}")))
}
