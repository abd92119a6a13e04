//! The command line. Every command takes `--config` and `--data-dir`.
//!
//! Exit codes: 0 done; 1 failed; 2 wrong usage; 65 input that cannot be read (`parse`, `import`);
//! 78 a configuration that is wrong; 3 gaps and 4 something that could not be asked (`reconcile`); 130 stopped by Ctrl-C (`import`).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use connector_api::Registration;

use crate::config::{self, Config, Flag, Sources};
use crate::{channels, telemetry};

mod backup;
#[cfg(feature = "kafka")]
mod bus;
mod channel;
mod control;
mod demo;
mod doctor;
mod health;
mod here;
#[doc(hidden)]
pub mod import;
mod migrate;
mod outbox;
mod parse;
mod privacy;
mod reconcile;
mod reload;
mod run;
mod send;

/// Exit code of a configuration that is wrong (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;
/// Exit code of input that cannot be read (`EX_DATAERR`).
pub const EXIT_DATA: u8 = 65;

const CONFIG_DEFAULT: &str = "/etc/switchboard/switchboard.toml";

#[derive(Parser)]
#[command(
    name = "switchboard",
    version,
    about = "Omnichannel routing for support teams",
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Where configuration and data are.
#[derive(Args, Clone)]
pub struct Common {
    /// Configuration file [default: /etc/switchboard/switchboard.toml where it exists]
    #[arg(long, global = true, env = "SWITCHBOARD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the database and attachments; overrides `server.data_dir`
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon
    Run {
        /// IP address and port; overrides `server.listen`
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
        /// This data directory was restored from a backup: hold every unsent reply for a person.
        /// For one start only; needed where the whole directory was set back, which cannot be noticed
        #[arg(long)]
        restored: bool,
    },
    /// Play a sample day through a daemon of its own, and stay up
    Demo(demo::Demo),
    /// Have the running daemon read its configuration again; a wrong one changes nothing
    Reload,
    /// Say everything that is wrong with the configuration
    CheckConfig {
        /// Print the configuration that results from all sources
        #[arg(long)]
        print: bool,
    },
    /// Print the JSON Schema of the configuration
    Schema,
    /// Read captured input (mails, webhook bodies) and print one JSON line per event
    Parse(parse::Parse),
    /// Send a test message through a webhook channel of the running daemon
    Send(send::Send),
    /// Look for what may be wrong with this installation, and say what to do
    Doctor(doctor::Doctor),
    /// Ask the daemon here whether it is ready
    Health(health::Health),
    /// Try a channel, or grant it access to its account
    #[command(subcommand)]
    Channel(channel::Channel),
    /// File mails and events that lie in files: mbox, Maildir, .eml, JSONL
    Import(import::Import),
    /// Move an installation of one process to Kafka and PostgreSQL
    Migrate(migrate::Migrate),
    /// Copy the installation as it is now, while it runs, and read the copy back
    Backup(backup::Backup),
    /// Put a backup where an installation is to run
    Restore(backup::Restore),
    /// Make, list and revoke API tokens
    #[command(subcommand)]
    Token(control::Token),
    /// Look at messages that could not be filed, and file them again
    #[command(subcommand)]
    DeadLetters(control::DeadLetters),
    /// Look at replies that have not left, and settle those that are held
    #[command(subcommand)]
    Outbox(outbox::Outbox),
    /// Compare what providers have with what was accepted, stored and routed, and name every gap
    Reconcile(reconcile::Reconcile),
    /// Put a legal hold on a contact, or lift it: nothing of a held one is removed
    Hold(privacy::Hold),
    /// Write everything that is kept of a contact into a directory
    Export(privacy::Export),
    /// Erase a contact and everything that is kept of it, and print the report
    Erase(privacy::Erase),
    /// List erasures, with what each removed and where copies may be until when
    Erasures(privacy::Erasures),
    /// Change the topic on Kafka that processes share
    #[cfg(feature = "kafka")]
    #[command(subcommand)]
    Bus(bus::Bus),
}

/// Runs the command line with the built-in connectors and `extra` ones of other crates.
pub fn run_with(extra: &[Registration]) -> ExitCode {
    let cli = Cli::parse();
    let registrations: Vec<Registration> = channels::builtin()
        .into_iter()
        .chain(extra.iter().copied())
        .collect();
    let result = match cli.command {
        Command::Run { listen, restored } => {
            run::run(&cli.common, listen, restored, &registrations)
        }
        Command::Demo(demo) => demo.run(&cli.common, &registrations),
        Command::Reload => reload::run(&cli.common, &registrations),
        Command::CheckConfig { print } => run::check(&cli.common, print, &registrations),
        Command::Schema => print_schema(&registrations),
        Command::Parse(parse) => parse.run(&cli.common, &registrations),
        Command::Send(send) => send.run(&cli.common, &registrations),
        Command::Doctor(doctor) => doctor.run(&cli.common, &registrations),
        Command::Health(health) => health.run(&cli.common, &registrations),
        Command::Channel(channel) => channel.run(&cli.common, &registrations),
        Command::Import(import) => import.run(&cli.common, &registrations),
        Command::Migrate(migrate) => migrate.run(&cli.common, &registrations),
        Command::Backup(backup) => backup.run(&cli.common, &registrations),
        Command::Restore(restore) => restore.run(&cli.common, &registrations),
        Command::Token(token) => token.run(&cli.common, &registrations),
        Command::DeadLetters(letters) => letters.run(&cli.common, &registrations),
        Command::Outbox(outbox) => outbox.run(&cli.common, &registrations),
        Command::Reconcile(reconcile) => reconcile.run(&cli.common, &registrations),
        Command::Hold(hold) => hold.run(&cli.common, &registrations),
        Command::Erase(erase) => erase.run(&cli.common, &registrations),
        Command::Erasures(erasures) => erasures.run(&cli.common, &registrations),
        Command::Export(export) => export.run(&cli.common, &registrations),
        #[cfg(feature = "kafka")]
        Command::Bus(bus) => bus.run(&cli.common, &registrations),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("{}", failure.text);
        ExitCode::from(failure.code)
    })
}

/// What a command ends with when it did not do what it should.
pub struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    pub fn new(text: impl std::fmt::Display) -> Self {
        Self {
            code: 1,
            text: format!("switchboard: {text}"),
        }
    }

    pub fn config(errors: &config::ConfigErrors) -> Self {
        Self {
            code: EXIT_CONFIG,
            text: errors.to_string(),
        }
    }

    pub fn data(text: impl std::fmt::Display) -> Self {
        Self {
            code: EXIT_DATA,
            text: format!("switchboard: {text}"),
        }
    }
}

pub type CommandResult = Result<ExitCode, Failure>;

impl Common {
    /// Reads the configuration with this command's flags on top.
    pub fn load(
        &self,
        flags: Vec<Flag>,
        registrations: &[Registration],
    ) -> Result<Config, Failure> {
        self.read(flags, registrations)
            .map_err(|errors| Failure::config(&errors))
    }

    /// The same, with everything that is wrong as it is.
    pub fn read(
        &self,
        mut flags: Vec<Flag>,
        registrations: &[Registration],
    ) -> Result<Config, config::ConfigErrors> {
        if let Some(dir) = &self.data_dir {
            flags.push(Flag::new(
                "--data-dir",
                "server.data_dir",
                dir.to_string_lossy(),
            ));
        }
        let sources = Sources::of_process(self.file(), flags);
        config::load(&sources, registrations)
    }

    /// The configuration file, absolute: the one that is named, else the installed one, if any.
    pub fn file(&self) -> Option<PathBuf> {
        let installed = PathBuf::from(CONFIG_DEFAULT);
        let named = self.config.clone();
        let file = named.or_else(|| installed.exists().then_some(installed))?;
        Some(std::path::absolute(&file).unwrap_or(file))
    }

    /// The file in words, for whoever wonders which one was read.
    pub fn source(&self) -> String {
        match self.file() {
            Some(file) => file.display().to_string(),
            None => format!(
                "no file (there is no {CONFIG_DEFAULT} and none is named): defaults and {}* only",
                config::ENV_PREFIX
            ),
        }
    }
}

/// A runtime for commands that talk to the daemon or are it.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("starting the runtime: {error}")))
}

fn print_schema(registrations: &[Registration]) -> CommandResult {
    let schema = serde_json::to_string_pretty(&config::schema(registrations))
        .map_err(|error| Failure::new(format!("writing the schema: {error}")))?;
    println!("{schema}");
    Ok(ExitCode::SUCCESS)
}

/// Logs of a command that is the daemon.
fn logs(config: &Config) {
    telemetry::logs(&config.log);
}
