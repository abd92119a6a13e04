//! The floor: the rows that the store wrote, put by `unnest` into bare tables of the same shape.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use switchboard::store::postgres::PostgresStore;
use switchboard::store::sql::Value;

/// What a message writes, in the order of the store, and how each is sorted. Before them: its dedupe keys, whose table
/// has the time in its name.
const TABLES: [(&str, &str); 8] = [
    ("contact", "id"),
    ("identity", "id"),
    ("conversation", "id"),
    ("waiting", "id"),
    ("message", "id"),
    ("body", "id"),
    ("event", "seq"),
    ("reference", "message"),
];

/// Writes the rows that are there now once more, batch by batch, each batch a transaction; the seconds it took.
/// `messages` is how many they are of.
pub async fn insert(store: &PostgresStore, messages: usize, batch: usize) -> Result<f64> {
    let batches = messages.div_ceil(batch);
    let mut parts = vec![(seen(store).await?, "message")];
    parts.extend(TABLES.map(|(table, order)| (table.to_owned(), order)));
    let mut tables = Vec::new();
    for (table, order) in parts {
        let rows = rows_of(store, table.clone(), order).await?;
        let statement = copy_of(store, table).await?;
        let each = rows.len().div_ceil(batches).max(1);
        let chunks: Vec<Arc<Vec<Vec<Value>>>> = rows
            .chunks(each)
            .map(|chunk| Arc::new(chunk.to_vec()))
            .collect();
        tables.push((statement, chunks));
    }
    let begun = Instant::now();
    for at in 0..batches {
        let parts = tables
            .iter()
            .filter_map(|(statement, chunks)| Some((statement.clone(), chunks.get(at)?.clone())));
        let parts: Vec<_> = parts.collect();
        let written = store.write_raw(move |conn| {
            for (statement, rows) in &parts {
                let mut insert = conn.write_each(statement)?;
                for row in &**rows {
                    insert.add(row.as_slice())?;
                }
                insert.done()?;
            }
            Ok(())
        });
        written.await?;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// The table of the dedupe keys of now.
async fn seen(store: &PostgresStore) -> Result<String> {
    let read = store.read_raw(|conn| {
        let sql = "SELECT CAST(relname AS text) FROM pg_class WHERE relname ~ '^seen_[0-9]+$' AND relkind = 'r'
             ORDER BY pg_relation_size(oid) DESC LIMIT 1";
        let mut asked = conn.prepare(sql)?;
        Ok(asked.query_row((), |row| row.get::<String>(0))?)
    });
    read.await.context("nothing was filed")
}

async fn rows_of(
    store: &PostgresStore,
    table: String,
    order: &'static str,
) -> Result<Vec<Vec<Value>>> {
    let columns = columns_of(store, table.clone()).await?.len();
    let read = store.read_raw(move |conn| {
        let mut asked = conn.prepare(&format!("SELECT * FROM {table} ORDER BY {order}"))?;
        let rows = asked.query_map((), |row| (0..columns).map(|at| row.get(at)).collect())?;
        Ok(rows.collect::<Result<Vec<Vec<Value>>, _>>()?)
    });
    Ok(read.await?)
}

async fn columns_of(store: &PostgresStore, table: String) -> Result<Vec<String>> {
    let read = store.read_raw(move |conn| {
        let sql = "SELECT CAST(attname AS text) FROM pg_attribute
             WHERE attrelid = CAST(?1 AS text)::regclass AND attnum > 0 ORDER BY attnum";
        let mut asked = conn.prepare(sql)?;
        let rows = asked.query_map([table.as_str()], |row| row.get(0))?;
        Ok(rows.collect::<Result<Vec<String>, _>>()?)
    });
    Ok(read.await?)
}

/// Makes a table like another, with its indexes; how rows are put into it.
async fn copy_of(store: &PostgresStore, table: String) -> Result<String> {
    let columns = columns_of(store, table.clone()).await?;
    let places: Vec<String> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
    let (columns, places) = (columns.join(", "), places.join(", "));
    let insert = format!("INSERT INTO bare_{table} ({columns}) VALUES ({places})");
    let made = store.write_raw(move |conn| {
        Ok(conn.batch(&format!(
            "CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)"
        ))?)
    });
    made.await?;
    Ok(insert)
}
