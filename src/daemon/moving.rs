//! Moves an installation of one process into the database, topic and directory of several. The old one is only read;
//! the new one is nobody's until everything in it was compared. Each step goes on where it was stopped.

use std::path::Path;

use aws_lc_rs::digest;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::blobs::{Blobs, hex};
use crate::config::{BusKind, Config, StoreKind};
use crate::relay::EVENTS;
use crate::store::moving::{MoveError, Result, Standing, Sum, Table, Value};
use crate::store::postgres::moving::{End, Found, Target};
use crate::store::sqlite::moving::Source;

use super::copying::{Copying, Files};
use super::files::configured as bucket;
use super::installation::blobs_dir;
use super::{DataDir, StartError, shared};

mod bus;
mod fits;

use bus::Inbound;

/// What was moved, or would be.
#[derive(Debug, Serialize)]
pub struct Moved {
    /// It was moved before, all of it.
    pub before: bool,
    /// Whether anything of it was there already.
    pub resumed: bool,
    pub tables: Vec<MovedTable>,
    pub files: Files,
    /// Records that were accepted and not decided.
    pub undecided: u64,
}

/// A table, the same on both sides.
#[derive(Debug, Serialize)]
pub struct MovedTable {
    pub name: String,
    pub rows: u64,
    /// Of all values in order; absent where nothing was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A move, ready to be made.
pub struct Moving<'a> {
    config: &'a Config,
    source: Source,
    standing: Standing,
    tables: Vec<Table>,
    files: Copying,
    target: Target,
    found: Found,
    runtime: Runtime,
    tell: &'a dyn Fn(&str),
    /// Nobody starts the old one meanwhile.
    held: DataDir,
}

impl<'a> Moving<'a> {
    /// Opens both sides and looks whether one can go into the other; says all that is in the way at once, and copies
    /// nothing.
    pub fn open(config: &'a Config, from: &Path, tell: &'a dyn Fn(&str)) -> Result<Self> {
        if config.store.kind != StoreKind::Postgres || config.bus.kind != BusKind::Kafka {
            return refused(
                "the configuration to move to is one of a single process: set bus.kind = \"kafka\" and store.kind = \
                 \"postgres\" in it"
                    .to_owned(),
            );
        }
        if !crate::store::sqlite::database_path(from).exists() {
            return refused(format!(
                "{}: there is no installation here: name the data directory of the one to move (server.data_dir)",
                from.display()
            ));
        }
        let held = DataDir::hold(from).map_err(|error| match error {
            StartError::DataDirInUse(dir) => MoveError::Refused(format!(
                "{}: a switchboard runs on it: stop it first, and leave it stopped",
                dir.display()
            )),
            other => MoveError::Refused(other.to_string()),
        })?;
        let source = Source::open(from)?;
        let standing = source.standing()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        let runtime = runtime
            .map_err(|error| MoveError::Refused(format!("starting the runtime: {error}")))?;
        let mut wrong = Wrong::default();
        let files = wrong.unless(copying(config, from, &runtime));
        let target = wrong.unless(target(config, &standing));
        // What was begun has put something there.
        if !matches!(target, Some((_, Found::Half | Found::Whole(_)))) {
            wrong.unless(bus::refuse_used(&runtime, config));
        }
        let missing = fits::missing(config, &source)?;
        wrong.0.extend(missing);
        let (Some(files), Some((target, found)), true) = (files, target, wrong.0.is_empty()) else {
            return refused(wrong.0.join("\n"));
        };
        Ok(Self {
            tables: source.tables()?,
            config,
            source,
            standing,
            files,
            target,
            found,
            runtime,
            tell,
            held,
        })
    }

    /// Says what would be moved.
    pub fn look(&self) -> Result<Moved> {
        if let Found::Whole(number) = self.found {
            return self.moved_before(number);
        }
        let tables = self.tables.iter().map(|table| {
            Ok(MovedTable {
                name: table.name.clone(),
                rows: self.source.count(table)?,
                sha256: None,
            })
        });
        Ok(Moved {
            before: false,
            resumed: self.found == Found::Half,
            tables: tables.collect::<Result<_>>()?,
            files: Files::of(&self.source.files()?),
            undecided: self.standing.undecided,
        })
    }

    /// Moves all of it, or what is missing.
    pub fn run(&self) -> Result<Moved> {
        if let Found::Whole(number) = self.found {
            let moved = self.moved_before(number)?;
            self.mark()?;
            return Ok(moved);
        }
        let inbound = Inbound::open(&self.runtime, self.config, self.files.to.clone(), self.tell)?;
        if self.found == Found::Nothing {
            self.target.begin(&self.standing)?;
        }
        let named = self.source.files()?;
        let copied = self.runtime.block_on(self.files.copy(&named, self.tell));
        copied.map_err(mend)?;
        for table in &self.tables {
            self.copy(table)?;
        }
        inbound.append(&self.source, &self.standing, &self.target)?;
        (self.tell)("comparing");
        let tables = self.tables.iter().map(|table| self.compare(table));
        let tables = tables.collect::<Result<Vec<_>>>()?;
        let compared = self.runtime.block_on(self.files.compare(&named, self.tell));
        let files = compared.map_err(mend)?;
        inbound.compare(&self.source, &self.standing)?;
        (self.tell)("finishing");
        let number = number_of(&tables);
        let agreed = self.number_of_files()?;
        let end = End {
            number,
            agreed: (shared::NUMBER_KEY, agreed),
            relay: EVENTS,
        };
        self.target.finish(&self.standing, &end)?;
        for table in &self.tables {
            self.target.analyze(table)?;
        }
        self.mark()?;
        Ok(Moved {
            before: false,
            resumed: self.found == Found::Half,
            tables,
            files,
            undecided: self.standing.undecided,
        })
    }

    /// By which processes know that they have the same files.
    fn number_of_files(&self) -> Result<i64> {
        let failed = |key: &str, error: String| MoveError::Refused(format!("store.{key}: {error}"));
        match self.files.to.bucket() {
            Some(bucket) => {
                let number = self.runtime.block_on(bucket.number());
                number.map_err(|error| failed("blobs_url", error))
            }
            None => {
                let dir = blobs_dir(self.config, &self.config.server.data_dir);
                shared::number_of(&dir).map_err(|error| failed("blobs_dir", error.to_string()))
            }
        }
    }

    /// The last command may have been ended after its last step: then nothing is left to do.
    fn moved_before(&self, number: i64) -> Result<Moved> {
        let tables = self.tables.iter().map(|table| {
            let sum = self.each(table, |_, _| Ok(()))?;
            Ok(moved(table, sum))
        });
        let tables = tables.collect::<Result<Vec<_>>>()?;
        if number_of(&tables) != number {
            return refused(
                "this installation was moved into this database before, and has run since where it was: what it did \
                 there is not here. To move it again, empty the database and name another bus.prefix; what the new one \
                 did is lost then"
                    .to_owned(),
            );
        }
        Ok(Moved {
            before: true,
            resumed: true,
            tables,
            files: Files::of(&self.source.files()?),
            undecided: self.standing.undecided,
        })
    }

    /// Has nobody start the old one by mistake: what waits there would leave a second time.
    fn mark(&self) -> Result<()> {
        let (store, bus) = (&self.config.store, &self.config.bus);
        let to = format!(
            "{} with the topics of {}",
            store.url.as_deref().unwrap_or_default(),
            bus.prefix
        );
        self.held.mark_moved(&to).map_err(|error| {
            MoveError::Refused(format!(
                "everything was moved, and {} could not be marked as moved: {error}: mend that, and begin again",
                self.held.path.display()
            ))
        })
    }

    /// Goes through a table as it is where it comes from, in order.
    fn each(
        &self,
        table: &Table,
        mut step: impl FnMut(Option<&[Value]>, &[Vec<Value>]) -> Result<()>,
    ) -> Result<Sum> {
        let mut sum = Sum::default();
        let mut after: Option<Vec<Value>> = None;
        loop {
            let batch = self.source.batch(table, after.as_deref())?;
            let Some(last) = batch.rows.last() else {
                return Ok(sum);
            };
            step(after.as_deref(), &batch.rows)?;
            batch.rows.iter().for_each(|row| sum.add(row));
            after = Some(table.key_of(last));
        }
    }

    fn copy(&self, table: &Table) -> Result<()> {
        self.target.make(table)?;
        let mut after = self.target.last(table)?;
        let (mut done, all) = (self.target.count(table)?, self.source.count(table)?);
        loop {
            if all > 0 {
                (self.tell)(&format!("{}: {done} of {all} rows", table.name));
            }
            let batch = self.source.batch(table, after.as_deref())?;
            let Some(last) = batch.rows.last() else {
                return Ok(());
            };
            self.target.write(table, &batch)?;
            done += batch.rows.len() as u64;
            after = Some(table.key_of(last));
        }
    }

    /// Reads back what was written and holds it against what it was made of.
    fn compare(&self, table: &Table) -> Result<MovedTable> {
        let differs = |what: String| {
            MoveError::Refused(format!(
                "{}: {what}, so it is not what was copied: empty the database (dropdb, createdb), name another \
                 bus.prefix, and begin again",
                table.name
            ))
        };
        let mut there = Sum::default();
        let sum = self.each(table, |after, rows| {
            let until = rows
                .last()
                .map(|last| table.key_of(last))
                .unwrap_or_default();
            let found = self.target.read(table, after, &until)?;
            found.iter().for_each(|row| there.add(row));
            match found == rows {
                true => Ok(()),
                false => Err(differs(format!("the rows up to the key {until:?} differ"))),
            }
        })?;
        let count = self.target.count(table)?;
        if count != sum.rows {
            return Err(differs(format!(
                "it has {count} rows instead of {}",
                sum.rows
            )));
        }
        let (here, there) = (moved(table, sum), moved(table, there));
        match here.sha256 == there.sha256 {
            true => Ok(here),
            false => Err(differs("its digest differs".to_owned())),
        }
    }
}

/// What is in the way, a line each.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless<T>(&mut self, done: Result<T>) -> Option<T> {
        done.map_err(|error| self.0.push(error.to_string())).ok()
    }
}

/// Where the files are, and where they go.
fn copying(config: &Config, from: &Path, runtime: &Runtime) -> Result<Copying> {
    let to = bucket(config, &config.server.data_dir).map_err(refusal)?;
    let files = Copying {
        from: blobs(&from.join("blobs"))?,
        to: match to {
            Some(to) => to,
            None => blobs(&blobs_dir(config, &config.server.data_dir))?,
        },
    };
    refuse_same(&files)?;
    if let Some(bucket) = files.to.bucket() {
        // Whether it is there, and ours to use: nobody looks after it meanwhile.
        let number = runtime.block_on(bucket.number());
        number.map_err(|error| MoveError::Refused(format!("store.blobs_url: {error}")))?;
        bucket.set_trouble(None);
    }
    Ok(files)
}

/// The new one forgets files in its time; those of the old one stay.
fn refuse_same(files: &Copying) -> Result<()> {
    let real = |blobs: &Blobs| std::fs::canonicalize(blobs.dir()).ok();
    let is_same = || real(&files.from).is_some_and(|one| Some(one) == real(&files.to));
    match files.to.bucket().is_none() && is_same() {
        false => Ok(()),
        true => refused(
            "store.blobs_dir is the directory that the installation has its files in now: name another one, so that it \
             stays as it is"
                .to_owned(),
        ),
    }
}

fn mend(failed: String) -> MoveError {
    MoveError::Refused(format!(
        "{failed}: mend or remove what is there, and begin again"
    ))
}

/// The database, and what is in it.
fn target(config: &Config, standing: &Standing) -> Result<(Target, Found)> {
    let database = shared::database(config).map_err(refusal)?;
    let target = Target::connect(database, &shared::accepted(config))?;
    let found = target.found(standing)?;
    Ok((target, found))
}

fn moved(table: &Table, sum: Sum) -> MovedTable {
    MovedTable {
        name: table.name.clone(),
        rows: sum.rows,
        sha256: Some(hex(&sum.sha256())),
    }
}

/// A number for all that was moved, to know it again.
fn number_of(tables: &[MovedTable]) -> i64 {
    let mut hash = digest::Context::new(&digest::SHA256);
    for table in tables {
        hash.update(table.name.as_bytes());
        hash.update(table.sha256.as_deref().unwrap_or_default().as_bytes());
    }
    let sum = hash.finish();
    let first = sum.as_ref().iter().take(8);
    first.fold(0, |number: i64, byte| number << 8 | i64::from(*byte)) & i64::MAX
}

fn blobs(dir: &Path) -> Result<Blobs> {
    Blobs::open(dir).map_err(|error| MoveError::Refused(format!("{}: {error}", dir.display())))
}

fn refused<T>(why: String) -> Result<T> {
    Err(MoveError::Refused(why))
}

fn refusal(error: StartError) -> MoveError {
    MoveError::Refused(error.to_string())
}
