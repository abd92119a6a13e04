//! What a writing connection keeps in memory of the rows it writes.

use std::sync::Arc;

use crate::ids::IdSource;
use crate::store::events::Moved;
use crate::store::rows::names::Names;
use crate::store::rows::{events, seen};
use crate::store::sql::{self, Conn};

/// Ids reserved at once: one small write per this many.
const IDS_RESERVED: i64 = 10_000;

/// State that mirrors rows. After a rollback it is read again.
pub struct Memory {
    pub names: Arc<Names>,
    /// Between two ids: where a bus gives numbers of its own, these keep off them.
    id_step: i64,
    next_id: i64,
    reserved_until: i64,
    /// The number of the last event.
    pub next_seq: i64,
    /// Counts changes of tokens, for those who believe one.
    pub token_changes: u64,
    /// Dedupe generations that are kept, oldest first.
    pub generations: Vec<i64>,
    /// Of the transaction that is open.
    pub standing: Standing,
    /// How its work has to be run again, where what it locked was not all that it needs.
    pub again: Option<Standing>,
}

/// Whether other transactions write at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Alone,
    Beside,
}

impl IdSource for Memory {
    fn next(&mut self) -> i64 {
        self.next_id += self.id_step;
        self.next_id
    }
}

impl Memory {
    pub fn load(conn: Conn<'_>, names: Arc<Names>) -> sql::Result<Self> {
        let reserved: Option<i64> = conn
            .prepare("SELECT max(value) FROM meta WHERE key = 'ids_reserved'")?
            .query_row((), |row| row.get(0))?;
        let next_seq = events::last(conn)?;
        let reserved = reserved.unwrap_or(0);
        Ok(Self {
            names,
            id_step: 1,
            next_id: reserved,
            reserved_until: reserved,
            next_seq,
            token_changes: 0,
            generations: seen::generations(conn)?,
            standing: Standing::Alone,
            again: None,
        })
    }

    /// Of a connection beside others, which draws what it gives out: ids end in `low`, of so many bits.
    pub fn drawing(names: Arc<Names>, generations: Vec<i64>, bits: u32, low: i64) -> Self {
        Self {
            names,
            id_step: 1 << bits,
            next_id: low,
            reserved_until: low,
            next_seq: 0,
            token_changes: 0,
            generations,
            standing: Standing::Alone,
            again: None,
        }
    }

    /// Goes on at a number that no copy of this store has given out, which is the time in microseconds: ids are given out more
    /// slowly than time passes. Whoever knows an id of after a backup was made finds nothing by it, and not something else.
    pub fn leave_out(&mut self, now: i64) {
        self.next_id = self.next_id.max(now);
    }

    /// The block of ids that begins there or behind.
    #[cfg(feature = "postgres")]
    pub fn block_at(&self, number: i64, ids_block: i64) -> i64 {
        number / (self.id_step * ids_block) + 1
    }

    /// The partition that a record is of, by its number.
    pub fn partition_of(&self, record: i64) -> i64 {
        record % self.id_step
    }

    /// Ids that may still be given out.
    pub fn ids_left(&self) -> i64 {
        if self.next_id < self.names.ids_above() {
            return 0;
        }
        (self.reserved_until - self.next_id) / self.id_step
    }

    /// Gives it ids of its own: so many, above `first`.
    pub fn take_ids(&mut self, first: i64, count: i64) {
        let low = self.next_id % self.id_step;
        self.next_id = first * self.id_step + low;
        self.reserved_until = self.next_id + count * self.id_step;
    }

    /// Before a commit: every id handed out lies below what the database says is taken.
    pub fn reserve_ids(&mut self, conn: Conn<'_>) -> sql::Result<()> {
        if self.next_id <= self.reserved_until {
            return Ok(());
        }
        let until = self.next_id + IDS_RESERVED;
        conn.prepare(
            "INSERT INTO meta (key, value) VALUES ('ids_reserved', ?1)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )?
        .execute([until])?;
        self.reserved_until = until;
        Ok(())
    }

    pub fn moved(&self) -> Moved {
        Moved {
            last_event: self.next_seq,
            token_changes: self.token_changes,
        }
    }

    /// What goes back with the rows when a job is undone. Ids handed out are merely not used.
    pub fn mirror(&self) -> Mirror {
        Mirror {
            next_seq: self.next_seq,
            generations: self.generations.clone(),
        }
    }

    pub fn restore(&mut self, before: Mirror) {
        self.next_seq = before.next_seq;
        self.generations = before.generations;
    }

    /// Reads everything again after a rollback. Ids already handed out are not used again.
    pub fn reload(&mut self, conn: Conn<'_>) -> sql::Result<()> {
        let fresh = Self::load(conn, self.names.clone())?;
        *self = Self {
            next_id: self.next_id.max(fresh.next_id),
            token_changes: self.token_changes,
            ..fresh
        };
        Ok(())
    }
}

/// What of the memory mirrors rows.
pub struct Mirror {
    next_seq: i64,
    generations: Vec<i64>,
}
