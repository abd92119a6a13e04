//! `import`: mails and events that lie in files, into a channel. Files are read as streams, one
//! batch ahead of the one that is being filed, so neither memory nor the daemon is ever full of them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, ValueEnum};
use connector_api::{ImportFormat, Registration};
use tokio::time::Instant;

use crate::blobs::{hex, sha256};
use crate::daemon::control::import::Line;
use crate::daemon::import::{Alone, Begin, Begun, Outcome, Place, Totals};

use super::run::start_failure;
use super::{CommandResult, Common, EXIT_DATA, Failure, runtime};

mod batches;
mod files;
mod lines;
mod mbox;
mod progress;
mod source;

use batches::{Batch, Batches, Position};
use mbox::How;
use progress::Progress;

/// Exit code of a command that Ctrl-C ended.
const EXIT_INTERRUPTED: u8 = 130;

/// Reads a file as an import does, to its end, and gives how many items it has: for the fuzzers of `fuzz/`.
#[doc(hidden)]
pub fn items_of(path: &std::path::Path, is_mbox: bool) -> Result<usize, String> {
    let how = How {
        quoting: Quoting::Mboxrd,
        certain: false,
    };
    let mut reader: Box<dyn batches::Reader> = match is_mbox {
        true => Box::new(mbox::Mbox::open(path, how, 0)?),
        false => Box::new(lines::Lines::open(path, 0)?),
    };
    let mut items = 0;
    while reader.next().map_err(|error| error.to_string())?.is_some() {
        items += 1;
    }
    Ok(items)
}

#[derive(Args)]
#[command(after_help = "\
Mails for a mail channel: an mbox, a Maildir (cur and new), an .eml file, or a directory with .eml
files below it. Events for a webhook channel: JSONL, one event a line as the channel takes them
(connectors/webhook/README.md); what `switchboard parse` prints is for reading, not for import.

Files are read unpacked, from a disk: not from standard input or a pipe. Mails that are passed over in a
directory (subfolders of a Maildir, links, other files) are counted at the end.

What is imported is history: filed closed, in no queue, answered by nothing automatic. What the
channel filed before, or shows again later, is known: importing twice files nothing twice. It counts from
when it was written: what is older than retention.resolved is not filed, and counted.
Stopped by Ctrl-C or otherwise, the same command goes on where it was.

Exit codes: 0 all is filed; 65 some items could not be read or filed, each is named; 130 stopped.")]
pub struct Import {
    /// The channel that it came to
    channel: String,
    /// A file or directory
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// File it as if it came now: queued, and acknowledged where the channel does that
    #[arg(long)]
    live: bool,
    /// What it is [default: by its name and first bytes]
    #[arg(long)]
    format: Option<Layout>,
    /// How lines that begin with "From " are quoted in an mbox
    #[arg(long, default_value = "mboxrd")]
    quoting: Quoting,
    /// Begin at its start, although an earlier import of it was stopped
    #[arg(long)]
    again: bool,
}

/// How files hold items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    Mbox,
    Maildir,
    Eml,
    Jsonl,
}

/// How a line of a mail is told from the line between two mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Quoting {
    /// One more `>` before every line of `>*From `; most programs
    Mboxrd,
    /// One `>` before `From ` only
    Mboxo,
}

impl Import {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let path = source::locate(&self.path).map_err(Failure::new)?;
        runtime()?.block_on(async {
            let mut target = match Line::open(&config.server.data_dir).await {
                Some(line) => Target::Daemon(line),
                None => {
                    let alone = Alone::start(&config, registrations).await;
                    Target::Alone(Box::new(alone.map_err(start_failure)?))
                }
            };
            let result = self.import(&mut target, path).await;
            if let Target::Alone(alone) = target {
                alone.stop().await;
            }
            result
        })
    }

    async fn import(&self, target: &mut Target, path: PathBuf) -> CommandResult {
        let history = !self.live;
        let mode = if history { "history" } else { "live" };
        let name = format!("{}\0{mode}\0{}", self.channel, path.display());
        let begin = Begin {
            channel: self.channel.clone(),
            history,
            source: hex(&sha256(name.as_bytes())),
        };
        let Begun {
            format,
            place,
            kept_seconds,
        } = target.begin(begin.clone()).await.map_err(Failure::new)?;
        let layout = self.layout(format, &path)?;
        let place = place.filter(|_| !self.again);
        let after: Option<Position> = place
            .as_ref()
            .and_then(|place| serde_json::from_value(place.after.clone()).ok());
        let how = How {
            quoting: self.quoting,
            certain: self.format.is_some(),
        };
        let (mut batches, resumed) =
            Batches::open(layout, how, &path, after.as_ref()).map_err(Failure::data)?;
        let mut totals = match &place {
            Some(place) if resumed => place.totals,
            _ => Totals::default(),
        };
        // Stopped within its first batch it has no place yet, but may have filed a part.
        let begun_before = place.as_ref().is_some_and(|place| place.after.is_null());
        let mut begins = !resumed && !begun_before;
        let progress = Progress::begin(&self.channel, batches.size(), layout);
        if resumed {
            progress.say(&format!(
                "going on where an earlier import stopped, after {} items; --again begins anew",
                totals.sum()
            ));
        }
        let began = Instant::now();
        let interrupted = on_interrupt();
        let mut next;
        (batches, next) = read_ahead(batches).await?;
        while let Some(batch) = next.take() {
            if interrupted.load(Ordering::Acquire) {
                progress.end();
                batches.remarks().iter().for_each(|it| eprintln!("{it}"));
                println!("{}: stopped: {}", self.channel, Shown(&totals));
                eprintln!("run the same command again to go on");
                return Ok(ExitCode::from(EXIT_INTERRUPTED));
            }
            for (place, reason) in &batch.unreadable {
                totals.unreadable += 1;
                progress.say(&format!("{place}: {reason}"));
            }
            let after = serde_json::to_value(&batch.after).map_err(Failure::new)?;
            let place = Place {
                after,
                totals,
                since: None,
            };
            let filing = target.batch(&begin, &batch, place, begins);
            begins &= batch.items.is_empty();
            let (outcomes, read) = tokio::join!(filing, read_ahead(batches));
            let outcomes = outcomes.map_err(|error| {
                progress.end();
                Failure::new(format!(
                    "{error}; {} so far; run the same command again to go on",
                    Shown(&totals)
                ))
            })?;
            for (place, outcome) in batch.places.iter().zip(&outcomes) {
                totals.count(outcome);
                match outcome {
                    Outcome::Unreadable(reason) => progress.say(&format!("{place}: {reason}")),
                    Outcome::Dead => progress.say(&format!("{place}: not filed, a dead letter")),
                    _ => {}
                }
            }
            progress.at(batch.done, &Shown(&totals).to_string());
            (batches, next) = read?;
        }
        target.end(&begin).await.map_err(Failure::new)?;
        progress.end();
        batches.remarks().iter().for_each(|it| eprintln!("{it}"));
        println!(
            "{}: {}, in {:.1} s",
            self.channel,
            Shown(&totals),
            began.elapsed().as_secs_f64()
        );
        if totals.old > 0 {
            let days = kept_seconds / (24 * 3600);
            eprintln!(
                "what was written before retention.resolved ({days} days) would be forgotten at once and was \
                 not filed: to keep it, raise that and import again"
            );
        }
        if totals.dead > 0 {
            eprintln!("what could not be filed: switchboard dead-letters list");
        }
        Ok(match totals.dead + totals.unreadable {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::from(EXIT_DATA),
        })
    }

    /// What the path holds, where the channel reads that.
    fn layout(&self, format: ImportFormat, path: &std::path::Path) -> Result<Layout, Failure> {
        source::refuse_packed(path).map_err(Failure::data)?;
        let layout = match self.format {
            Some(layout) => layout,
            None => source::recognise(path, format).map_err(Failure::data)?,
        };
        let fits = (layout == Layout::Jsonl) == (format == ImportFormat::Json);
        let (reads, found) = match format {
            ImportFormat::Json => ("JSONL", "mails"),
            _ => ("mails", "JSONL"),
        };
        match fits {
            true => Ok(layout),
            false => Err(Failure::data(format!(
                "the channel {} reads {reads}, and {} holds {found}",
                self.channel,
                path.display()
            ))),
        }
    }
}

/// The totals as a person reads them.
struct Shown<'a>(&'a Totals);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals {
            imported,
            known,
            dead,
            old,
            unreadable,
        } = self.0;
        write!(f, "{imported} imported, {known} known already")?;
        if *dead > 0 {
            write!(f, ", {dead} not filed")?;
        }
        if *old > 0 {
            write!(f, ", {old} too old to be kept")?;
        }
        write!(f, ", {unreadable} unreadable")
    }
}

/// The next batch, read on a thread for such work.
async fn read_ahead(mut batches: Batches) -> Result<(Batches, Option<Batch>), Failure> {
    let read = tokio::task::spawn_blocking(move || {
        let batch = batches.next();
        (batches, batch)
    });
    let (batches, batch) = read.await.map_err(Failure::new)?;
    Ok((batches, batch.map_err(Failure::data)?))
}

/// Set by the first Ctrl-C, after which the batch under way is finished; the second one ends all.
fn on_interrupt() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if flag.swap(true, Ordering::AcqRel) {
                std::process::exit(i32::from(EXIT_INTERRUPTED));
            }
        }
    });
    interrupted
}

/// Who files: the daemon that runs, or the same parts here where none does.
enum Target {
    Daemon(Line),
    Alone(Box<Alone>),
}

impl Target {
    async fn begin(&mut self, begin: Begin) -> Result<Begun, String> {
        match self {
            Self::Daemon(line) => line.begin(begin).await,
            Self::Alone(alone) => alone.importer.begin(&begin).await,
        }
    }

    async fn batch(
        &mut self,
        begin: &Begin,
        batch: &Batch,
        place: Place,
        begins: bool,
    ) -> Result<Vec<Outcome>, String> {
        match self {
            _ if batch.items.is_empty() => Ok(Vec::new()),
            Self::Daemon(line) => line.batch(&batch.items, place, begins).await,
            Self::Alone(alone) => {
                let items = batch.items.clone();
                alone.importer.batch(begin, items, place, begins).await
            }
        }
    }

    async fn end(&mut self, begin: &Begin) -> Result<(), String> {
        match self {
            Self::Daemon(line) => line.end().await,
            Self::Alone(alone) => alone.importer.end(begin).await,
        }
    }
}
