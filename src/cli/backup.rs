//! `backup` and `restore`: a copy of an embedded installation, and a copy put back.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use connector_api::Registration;
use serde::Serialize;

use crate::clock::SystemClock;
use crate::daemon::backup::{Manifest, back_up, restore};

use super::{CommandResult, Common, Failure, runtime};

#[derive(Args)]
#[command(after_help = "\
The daemon may run meanwhile: what is in the backup is what was committed at one moment. It has every key and all that
customers wrote, so keep it like the data directory. Your configuration and the files that it names are not in it.")]
pub struct Backup {
    /// Directory to make
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print its manifest as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(after_help = "\
The data directory must have no database. The first start holds every reply that had not left when the backup was made:
switchboard outbox list --state restored.")]
pub struct Restore {
    /// Directory that switchboard backup made
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Read all of it, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print its manifest and whether it was restored as one JSON object
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let made = runtime()?.block_on(back_up(&config, &self.to, &SystemClock, &tell));
        let manifest = made.map_err(Failure::new)?;
        if self.json {
            return print(&manifest);
        }
        println!("{}", summary(&manifest));
        println!("backed up to {}, and read back", self.to.display());
        Ok(ExitCode::SUCCESS)
    }
}

impl Restore {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let done = runtime()?.block_on(restore(&config, &self.from, self.dry_run, &tell));
        let done = done.map_err(Failure::new)?;
        if self.json {
            return print(&done);
        }
        println!("{}", summary(&done.manifest));
        let (at, dir) = (done.manifest.made_at, config.server.data_dir.display());
        match (done.restored, done.manifest.unsent) {
            (false, _) => println!("it is whole; nothing was restored"),
            (true, 0) => println!("restored to {dir} as of {at}: start it"),
            (true, unsent) => println!(
                "restored to {dir} as of {at}: start it; {unsent} replies that may have left since are held: switchboard \
                 outbox list --state restored"
            ),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(line: &str) {
    eprintln!("{line}");
}

fn summary(manifest: &Manifest) -> String {
    let Manifest {
        contacts,
        conversations,
        messages,
        undecided,
        unsent,
        database,
        files,
        ..
    } = manifest;
    format!(
        "{messages} messages, {conversations} conversations, {contacts} contacts, {undecided} accepted and undecided, {unsent} \
         replies unsent\ndatabase: {} bytes; {} files, {} bytes",
        database.bytes, files.count, files.bytes
    )
}

fn print(said: &impl Serialize) -> CommandResult {
    let text = serde_json::to_string_pretty(said).map_err(Failure::new)?;
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}
