//! `migrate`: moves an embedded installation into the database, topic and files of several processes.

use std::path::PathBuf;

use clap::Args;
use connector_api::Registration;

#[cfg(all(feature = "kafka", feature = "postgres"))]
use super::run;
use super::{CommandResult, Common, Failure};

#[derive(Args)]
#[command(after_help = "\
Both sides are stopped meanwhile; the old one is only read. Stopped anywhere, the same command goes on.
Exit code 0 once everything is there and was compared, and when that was so before.")]
pub struct Migrate {
    /// Data directory of the installation to move
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Configuration to move it to: an empty database, a bus.prefix that nothing has
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Look whether it can be moved, and say what would be
    #[arg(long)]
    dry_run: bool,
    /// One JSON object of {before, resumed, tables, files, undecided}
    #[arg(long)]
    json: bool,
}

#[cfg(all(feature = "kafka", feature = "postgres"))]
impl Migrate {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        use std::process::ExitCode;

        use crate::daemon::moving::Moving;

        let common = Common {
            config: Some(self.to.clone()),
            ..common.clone()
        };
        let config = common.load(Vec::new(), registrations)?;
        // A configuration that no process would start with is nothing to move to.
        run::good(&config, registrations).map_err(|errors| Failure::config(&errors))?;
        let tell = |line: &str| eprintln!("{line}");
        let moving = Moving::open(&config, &self.from, &tell).map_err(Failure::new)?;
        let moved = match self.dry_run {
            true => moving.look(),
            false => moving.run(),
        };
        let moved = moved.map_err(Failure::new)?;
        if self.json {
            let text = serde_json::to_string_pretty(&moved).map_err(Failure::new)?;
            println!("{text}");
            return Ok(ExitCode::SUCCESS);
        }
        for table in moved.tables.iter().filter(|table| table.rows > 0) {
            match &table.sha256 {
                Some(sha256) => println!(
                    "{:<20} {:>10} rows, equal, sha256 {sha256}",
                    table.name, table.rows
                ),
                None => println!("{:<20} {:>10} rows", table.name, table.rows),
            }
        }
        println!("{} files, {} bytes", moved.files.count, moved.files.bytes);
        println!("{} undecided records", moved.undecided);
        println!(
            "{}",
            match (self.dry_run, moved.before) {
                (true, false) => "this would be moved; nothing was copied",
                (true, true) => "it was moved before",
                (false, true) => "it was moved before, all of it: nothing to do",
                (false, false) =>
                    "moved: start the processes of the new configuration; leave the old one stopped",
            }
        );
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(not(all(feature = "kafka", feature = "postgres")))]
impl Migrate {
    pub fn run(self, _: &Common, _: &[Registration]) -> CommandResult {
        let Self {
            from,
            to,
            dry_run,
            json,
        } = self;
        drop((from, to, dry_run, json));
        Err(Failure::new(
            "this build has no Kafka and no PostgreSQL: take one with the features kafka and postgres",
        ))
    }
}
