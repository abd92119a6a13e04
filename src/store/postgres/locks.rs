//! What a transaction beside others locks. Everybody locks in one order: names, the position, stripes, contacts by
//! id, conversations by id, then what is written. Who starts lower never climbs; where that was not enough, the
//! transaction begins again.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;

use crate::store::sql::Result;

use super::session::{Session, Value};

/// Advisory locks of two numbers: which kind, and which of it. 5473 is the store's own (transaction.rs).
const NAMES: i32 = 5474;
const STRIPES: i32 = 5475;

/// A conversation as it stands under its lock.
pub struct Held {
    pub version: i64,
    pub contact: i64,
}

impl Session {
    /// Whoever names the same waits until the transaction is over.
    pub fn lock_name(&self, name: &str) -> Result<()> {
        let statement = self.prepare(&format!(
            "SELECT pg_advisory_xact_lock({NAMES}, hashtext(?1))"
        ))?;
        self.query(&statement, &[name]).map(drop)
    }

    /// Each stripe, and whether it is wanted alone.
    pub fn lock_stripes(&self, stripes: &BTreeMap<i32, bool>) -> Result<()> {
        if stripes.is_empty() {
            return Ok(());
        }
        // One after the other, in order.
        let locks = stripes.iter().map(|(stripe, alone)| {
            let shared = if *alone { "" } else { "_shared" };
            format!("pg_advisory_xact_lock{shared}({STRIPES}, {stripe})")
        });
        let locks: Vec<String> = locks.collect();
        self.batch_later(&format!("SELECT {}", locks.join(", ")));
        Ok(())
    }

    /// The versions of those that are there.
    pub fn lock_contacts(&self, sorted: Vec<i64>) -> Result<BTreeMap<i64, i64>> {
        let sql = "SELECT id, version FROM contact WHERE id = ANY(?1) ORDER BY id FOR UPDATE";
        let rows = self.query_values(&self.prepare(sql)?, &[Value::Ids(sorted)])?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect()
    }

    /// The contacts that conversations belong to now, in order.
    pub fn contacts_of(&self, conversations: &[i64]) -> Result<Vec<i64>> {
        // Asked for in order they would be read in order: all that there are.
        let sql = "SELECT contact FROM conversation WHERE id = ANY(?1)";
        let values = [Value::Ids(conversations.to_vec())];
        let rows = self.query_values(&self.prepare(sql)?, &values)?;
        let contacts: Result<BTreeSet<i64>> = rows.iter().map(|row| Ok(row.try_get(0)?)).collect();
        Ok(contacts?.into_iter().collect())
    }

    /// One, with whatever is asked next: that sees what whoever had it before wrote.
    pub fn lock_conversation(&self, id: i64) -> Result<()> {
        self.write("SELECT FROM conversation WHERE id = ?1 FOR UPDATE", &[id])
    }

    pub fn lock_conversations(&self, sorted: Vec<i64>) -> Result<BTreeMap<i64, Held>> {
        let sql = "SELECT id, version, contact FROM conversation WHERE id = ANY(?1) ORDER BY id FOR UPDATE";
        let rows = self.query_values(&self.prepare(sql)?, &[Value::Ids(sorted)])?;
        rows.iter().map(held).collect()
    }

    /// These, and all that are open of these contacts.
    pub fn lock_matters(
        &self,
        contacts: Vec<i64>,
        sorted: Vec<i64>,
    ) -> Result<BTreeMap<i64, Held>> {
        // As an array the ids are looked up one by one; as a list they would be joined, in the order of the whole table.
        let sql = "SELECT id, version, contact FROM conversation WHERE id = ANY(ARRAY(
                     SELECT id FROM conversation WHERE contact = ANY(?1) AND status < 8 UNION SELECT unnest(?2::bigint[])))
                   ORDER BY id FOR UPDATE";
        let values = [Value::Ids(contacts), Value::Ids(sorted)];
        let rows = self.query_values(&self.prepare(sql)?, &values)?;
        rows.iter().map(held).collect()
    }
}

fn held(row: &Row) -> Result<(i64, Held)> {
    let held = Held {
        version: row.try_get(1)?,
        contact: row.try_get(2)?,
    };
    Ok((row.try_get(0)?, held))
}
