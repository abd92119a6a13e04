//! What is read of an embedded installation that is moved elsewhere, without changing anything of it.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, Row};

use crate::bus::NewBlob;
use crate::store::moving::{
    Batch, MoveError, Result, Side, Standing, Table, Undecided, Value, kept, moved_tables,
};
use crate::store::name_of;
use crate::store::rows::{events, seen};

use super::backup::named_files;
use super::open::open_reading;
use super::{SCHEMA_VERSION, database_path, lineage};

/// Undecided records read at once.
const RECORDS_MAX: i64 = 500;
const RECORDS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// An embedded installation, as it stood when it was opened.
pub struct Source {
    conn: Connection,
    position: i64,
}

impl Source {
    /// Opens the store of a data directory that nobody runs on.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let conn = open_reading(&database_path(data_dir))?;
        let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != SCHEMA_VERSION {
            return Err(MoveError::Refused(format!(
                "{}: its database has schema version {version}, this build knows {SCHEMA_VERSION}: start this \
                 version on it once, stop it, and begin again",
                data_dir.display()
            )));
        }
        conn.execute_batch("BEGIN")?;
        let position = "SELECT coalesce(min(position), 0) FROM position";
        let position = conn.query_row(position, [], |row| row.get(0))?;
        let source = Self { conn, position };
        source.refuse_restored(data_dir)?;
        Ok(source)
    }

    /// A backup that was put back holds what it has unsent once it is started, and not before.
    fn refuse_restored(&self, data_dir: &Path) -> Result<()> {
        let counted = lineage::counted((&self.conn).into())?;
        let beside = lineage::read(data_dir).map_err(|error| {
            MoveError::Refused(format!("the lineage in {}: {error}", data_dir.display()))
        })?;
        let name = name_of(&self.key()?);
        if counted.is_some() && lineage::is_restored(counted, &beside, &name) {
            return Err(MoveError::Refused(format!(
                "{}: this database was restored from a backup and has not run since: start it once, so that what it \
                 has unsent is held for a person, stop it, and begin again",
                data_dir.display()
            )));
        }
        Ok(())
    }

    fn key(&self) -> Result<Vec<u8>> {
        let key = "SELECT value FROM secret WHERE key = 'installation_key'";
        Ok(self.conn.query_row(key, [], |row| row.get(0))?)
    }

    pub fn standing(&self) -> Result<Standing> {
        let number = |sql: &str| self.conn.query_row(sql, [], |row| row.get::<_, i64>(0));
        let ends = [
            "SELECT coalesce(max(value), 0) FROM meta WHERE key = 'ids_reserved'",
            "SELECT coalesce(max(record), 0) FROM log",
            "SELECT coalesce(max(id), 0) FROM body",
            "SELECT coalesce(max(id), 0) FROM message",
            "SELECT coalesce(max(id), 0) FROM conversation",
            "SELECT coalesce(max(id), 0) FROM contact",
        ];
        let ends = ends.into_iter().map(number);
        let last = ends.collect::<rusqlite::Result<Vec<i64>>>()?;
        let undecided = "SELECT count(*) FROM log WHERE record > ?1";
        let undecided = self
            .conn
            .query_row(undecided, [self.position], |row| row.get::<_, i64>(0))?;
        Ok(Standing {
            key: self.key()?,
            last_event: events::last((&self.conn).into())?,
            numbers_end: last.into_iter().max().unwrap_or(0) + 1,
            position: self.position,
            undecided: undecided.unsigned_abs(),
        })
    }

    /// Everything that is moved, with the generations of dedupe keys there are.
    pub fn tables(&self) -> Result<Vec<Table>> {
        let made = moved_tables().into_iter().map(str::to_owned);
        let generations = seen::generations((&self.conn).into())?;
        let seen = generations.into_iter().map(seen::table);
        made.chain(seen).map(|name| self.table(name)).collect()
    }

    fn table(&self, name: String) -> Result<Table> {
        let asked = "SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid";
        let mut asked = self.conn.prepare(asked)?;
        let columns = asked.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let columns: Vec<(String, i64)> = columns.collect::<rusqlite::Result<_>>()?;
        let mut key: Vec<(i64, usize)> = (columns.iter().enumerate())
            .filter(|(_, (_, place))| *place > 0)
            .map(|(at, (_, place))| (*place, at))
            .collect();
        key.sort_unstable();
        Ok(Table {
            name,
            key: key.into_iter().map(|(_, at)| at).collect(),
            columns: columns.into_iter().map(|(column, _)| column).collect(),
        })
    }

    /// The rows behind a key, as many as one step takes.
    pub fn batch(&self, table: &Table, after: Option<&[Value]>) -> Result<Batch> {
        let sql = table.select(Side::From, after.is_some(), false);
        let mut statement = self.conn.prepare_cached(&sql)?;
        let given = rusqlite::params_from_iter(after.unwrap_or_default());
        let mut rows = statement.query(given)?;
        let mut batch = Batch::default();
        while let Some(row) = rows.next()? {
            if !batch.add(values(row, table.columns.len())?) {
                break;
            }
        }
        Ok(batch)
    }

    /// How many rows are moved of it.
    pub fn count(&self, table: &Table) -> Result<u64> {
        let count =
            (self.conn).query_row(&table.count(Side::From), [], |row| row.get::<_, i64>(0))?;
        Ok(count.unsigned_abs())
    }

    /// Files that rows name, in order.
    pub fn files(&self) -> Result<Vec<([u8; 32], u64)>> {
        Ok(named_files(&self.conn)?)
    }

    /// Replies that have not left, by their channel.
    pub fn unsent(&self) -> Result<BTreeMap<String, u64>> {
        self.counted(
            "SELECT name, count(*) FROM outbox JOIN name ON name.id = outbox.channel GROUP BY name",
        )
    }

    /// Conversations that are not over, by their queue.
    pub fn open_conversations(&self) -> Result<BTreeMap<String, u64>> {
        self.counted(
            "SELECT name, count(*) FROM conversation JOIN name ON name.id = conversation.queue
             WHERE status < 8 GROUP BY name",
        )
    }

    fn counted(&self, sql: &str) -> Result<BTreeMap<String, u64>> {
        let mut asked = self.conn.prepare(sql)?;
        let counted = asked.query_map([], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
        })?;
        Ok(counted.collect::<rusqlite::Result<_>>()?)
    }

    /// Records behind this one that were accepted and not decided, some of them.
    pub fn undecided(&self, after: i64) -> Result<Vec<Undecided>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT log.record, log.arrived_at, log.record_key, body.content FROM log
             LEFT JOIN body ON body.id = log.record WHERE log.record > ?1 ORDER BY log.record LIMIT ?2",
        )?;
        let mut rows = statement.query((after.max(self.position), RECORDS_MAX))?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        while bytes < RECORDS_BYTES_MAX
            && let Some(row) = rows.next()?
        {
            let record: i64 = row.get(0)?;
            let body: Option<Vec<u8>> = row.get(3)?;
            let body = body.unwrap_or_default();
            let beside = [
                "SELECT content, sha256, bytes_len FROM raw WHERE id = ?1",
                "SELECT content, sha256, bytes_len FROM blob WHERE body = ?1 ORDER BY sha256",
            ];
            let [raw, blobs] = beside.map(|sql| self.beside(sql, record));
            let (raw, blobs) = (raw?, blobs?);
            let inline = raw
                .iter()
                .chain(&blobs)
                .filter_map(|blob| blob.inline.as_ref());
            bytes += body.len() + inline.map(bytes::Bytes::len).sum::<usize>();
            found.push(Undecided {
                record,
                arrived_at: row.get(1)?,
                record_key: row.get::<_, i64>(2)? as u64,
                body,
                raw: raw.into_iter().next(),
                blobs,
            });
        }
        Ok(found)
    }

    fn beside(&self, sql: &str, record: i64) -> Result<Vec<NewBlob>> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let found = statement.query_map([record], |row| {
            let content: Option<Vec<u8>> = row.get(0)?;
            let named: Option<[u8; 32]> = row.get(1)?;
            let inline = content.map(bytes::Bytes::from);
            let digest = |bytes: &bytes::Bytes| crate::blobs::sha256(bytes);
            Ok(NewBlob {
                sha256: named
                    .or_else(|| inline.as_ref().map(digest))
                    .unwrap_or_default(),
                bytes_len: row.get::<_, i64>(2)?.unsigned_abs(),
                inline,
                hold: None,
            })
        })?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }
}

fn values(row: &Row<'_>, count: usize) -> rusqlite::Result<Vec<Value>> {
    (0..count).map(|at| row.get(at).map(kept)).collect()
}
