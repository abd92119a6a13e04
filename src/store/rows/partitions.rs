//! Generations of topics, the numbers of their partitions, and how far each is decided.

use async_trait::async_trait;

use crate::bus::PARTITION_BITS;
use crate::store::partitions::{Generation, Partitions, Stage, topic_of};
use crate::store::rows::{Engine, RowStore};
use crate::store::sql::{self, Conn, Optional as _, params};
use crate::store::{Result, StoreError};

/// Under which name the store keeps it.
pub const BASE: &str = "records_base";

/// Above which the numbers of records on a bus elsewhere begin: those below were given out by another bus, before the
/// installation was moved to this one. 0 where it never was.
pub fn base(conn: Conn<'_>) -> sql::Result<i64> {
    let noted = conn
        .prepare("SELECT value FROM meta WHERE key = ?1")?
        .query_row([BASE], |row| row.get(0))
        .optional()?;
    Ok(noted.unwrap_or(0))
}

#[async_trait]
impl<E: Engine> Partitions for RowStore<E> {
    async fn generations(&self, topic: &str) -> Result<Vec<Generation>> {
        let topic = topic.to_owned();
        self.engine
            .read(move |conn, _| {
                let snapshot = conn.snapshot()?;
                all(snapshot.conn(), &topic)
            })
            .await
    }

    async fn begin_generations(&self, topic: &str, partitions: u32) -> Result<Vec<Generation>> {
        let topic = topic.to_owned();
        self.engine
            .write(0, move |tx| {
                let known = all(tx.conn, &topic)?;
                if !known.is_empty() {
                    return Ok(known);
                }
                let base = base(tx.conn)?;
                add(tx.conn, &topic, (1, Stage::Open, base), partitions)?;
                all(tx.conn, &topic)
            })
            .await
    }

    async fn announce_generation(
        &self,
        topic: &str,
        number: u32,
        partitions: u32,
        number_max: u32,
    ) -> Result<bool> {
        let topic = topic.to_owned();
        self.engine
            .write(0, move |tx| {
                let known = all(tx.conn, &topic)?;
                let mut used = known.iter().filter(|one| one.stage != Stage::Left);
                let newest = used.next();
                if newest.is_none_or(|one| one.stage != Stage::Open || one.number + 1 != number)
                    || used.next().is_some()
                {
                    return Ok(true);
                }
                if last_number(tx.conn)? + i64::from(partitions) > i64::from(number_max) {
                    return Ok(false);
                }
                // Its base is known once the one before is sealed.
                add(tx.conn, &topic, (number, Stage::Coming, 0), partitions)?;
                Ok(true)
            })
            .await
    }

    async fn turn_generation(&self, topic: &str, to: u32, ends: Vec<i64>) -> Result<()> {
        let topic = topic.to_owned();
        self.engine
            .write(0, move |tx| {
                let known = all(tx.conn, &topic)?;
                let of = |number| known.iter().find(|one| one.number == number);
                let (Some(old), Some(new)) = (of(to.saturating_sub(1)), of(to)) else {
                    return Err(StoreError::Poisoned(format!(
                        "{topic} has no generation {to}"
                    )));
                };
                if new.stage != Stage::Coming {
                    return Ok(());
                }
                if ends.len() != old.partitions.len() {
                    let (known, said) = (old.partitions.len(), ends.len());
                    let what = format!("{topic} has {known} partitions, and {said} ends are said");
                    return Err(StoreError::Poisoned(what));
                }
                for (partition, end) in old.partitions.iter().zip(&ends) {
                    tx.conn
                        .prepare("INSERT INTO partition_end (partition, record) VALUES (?1, ?2)")?
                        .execute(params![*partition, *end])?;
                }
                let last = ends.iter().copied().max().unwrap_or(0).max(old.base);
                let base = ((last >> PARTITION_BITS) + 1) << PARTITION_BITS;
                tx.conn
                    .prepare("UPDATE bus_generation SET base = ?2 WHERE topic = ?1")?
                    .execute(params![new.topic, base])?;
                stage(tx.conn, &old.topic, Stage::Sealed)?;
                stage(tx.conn, &new.topic, Stage::Open)
            })
            .await
    }

    async fn leave_generation(&self, topic: &str, number: u32) -> Result<()> {
        let topic = topic.to_owned();
        self.engine
            .write(0, move |tx| {
                let known = all(tx.conn, &topic)?;
                let mut sealed = known.iter().filter(|one| one.stage == Stage::Sealed);
                match sealed.find(|one| one.number == number) {
                    Some(sealed) => stage(tx.conn, &sealed.topic, Stage::Left),
                    None => Ok(()),
                }
            })
            .await
    }

    async fn positions(&self) -> Result<Vec<(u32, i64)>> {
        self.engine
            .read(|conn, _| {
                Ok(conn
                    .prepare("SELECT partition, position FROM position ORDER BY partition")?
                    .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<std::result::Result<_, _>>()?)
            })
            .await
    }
}

fn all(conn: Conn<'_>, first: &str) -> Result<Vec<Generation>> {
    let sql = "SELECT topic, number, stage, partitions, base FROM bus_generation WHERE first = ?1 ORDER BY number";
    let mut asked = conn.prepare(sql)?;
    let known = asked.query_map([first], |row| {
        let stage: i64 = row.get(2)?;
        let known = usize::try_from(stage)
            .ok()
            .and_then(|at| Stage::ALL.get(at));
        let stage = *known.ok_or(sql::Error::Meaningless {
            column: 2,
            value: stage,
        })?;
        let generation = Generation {
            topic: row.get(0)?,
            number: row.get(1)?,
            stage,
            partitions: Vec::new(),
            base: row.get(4)?,
            ends: Vec::new(),
        };
        Ok((generation, row.get::<i64>(3)?))
    })?;
    let known: Vec<(Generation, i64)> = known.collect::<sql::Result<_>>()?;
    let mut generations = Vec::with_capacity(known.len());
    for (mut generation, count) in known {
        let sql = "SELECT id, record FROM topic_partition LEFT JOIN partition_end ON partition = id
                   WHERE topic = ?1 AND at < ?2 ORDER BY at";
        let rows: Vec<(u32, Option<i64>)> = conn
            .prepare(sql)?
            .query_map(params![generation.topic, count], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<sql::Result<_>>()?;
        generation.partitions = rows.iter().map(|(id, _)| *id).collect();
        generation.ends = rows.iter().filter_map(|(_, end)| *end).collect();
        generations.push(generation);
    }
    Ok(generations)
}

/// Adds a generation of a topic: its number, how it stands, its base.
fn add(
    conn: Conn<'_>,
    first: &str,
    (number, stage, base): (u32, Stage, i64),
    partitions: u32,
) -> Result<()> {
    let topic = topic_of(first, number);
    let mut id = last_number(conn)?;
    for at in 0..partitions {
        // A version that knew nothing of generations may have numbered those of the first one.
        let sql = "INSERT INTO topic_partition (id, topic, at) VALUES (?1, ?2, ?3) ON CONFLICT (topic, at) DO NOTHING";
        let added = conn.prepare(sql)?.execute(params![id + 1, topic, at])?;
        id += i64::from(added > 0);
    }
    conn.prepare(
        "INSERT INTO bus_generation (topic, first, number, stage, partitions, base) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![topic, first, number, stage as i64, partitions, base])?;
    Ok(())
}

fn last_number(conn: Conn<'_>) -> Result<i64> {
    Ok(conn
        .prepare("SELECT coalesce(max(id), 0) FROM topic_partition")?
        .query_row((), |row| row.get(0))?)
}

fn stage(conn: Conn<'_>, topic: &str, stage: Stage) -> Result<()> {
    conn.prepare("UPDATE bus_generation SET stage = ?2 WHERE topic = ?1")?
        .execute(params![topic, stage as i64])?;
    Ok(())
}
