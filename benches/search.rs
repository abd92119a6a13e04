//! What a search costs whose words stand in messages that the asker may not see, against the same words in an index
//! without brands and queues, where permission is looked at behind it. `make bench-search` runs it.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use rusqlite::{Connection, params};
use switchboard::dispatch::{Actor, Role};
use switchboard::search::{Query, Scope, indexed};
use switchboard::store::search::{Search, SearchRequest};
use switchboard::store::sqlite::{SqliteStore, database_path};

/// Of so many messages one is the asker's.
const OWN_EVERY: i64 = 151;
const TIMES: usize = 9;
const LIMIT: u32 = 51;
const QUESTIONS: [(&str, &str); 4] = [
    ("a word that only others wrote", "zebra"),
    ("the same with a word of everybody", "order zebra"),
    ("its beginning", "zeb*"),
    ("a word that nobody wrote", "nobody"),
];

#[derive(Parser, Debug)]
struct Options {
    #[arg(long, default_value_t = 151_000)]
    messages: i64,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let dir = tempfile::tempdir()?;
    let queues = ["frontline".parse()?, "back".parse()?];
    let store = SqliteStore::open(dir.path(), &["main".to_owned()], &queues)?;
    let queue_of = |name: &str| store.names().id(name);
    let (main, frontline, back) = (queue_of("main"), queue_of("frontline"), queue_of("back"));
    fill(&store, options.messages, [main, frontline, back]).await?;
    let conn = Connection::open(database_path(dir.path()))?;
    let bytes = |table: &str| {
        let sql = format!("SELECT sum(length(block)) FROM {table}_data");
        conn.query_row(&sql, [], |row| row.get::<_, i64>(0))
    };
    println!(
        "index                                 {} bytes with brands and queues, {} without",
        bytes("message_search")?,
        bytes("plain_search")?
    );
    for (what, asked) in QUESTIONS {
        let mut scoped = Vec::new();
        let mut plain = Vec::new();
        for _ in 0..TIMES {
            scoped.push(search(&store, asked).await?);
            plain.push(search_plainly(&conn, frontline, asked)?);
        }
        let (scoped, plain) = (median(scoped)?, median(plain)?);
        println!(
            "{what:<38}{:.2} ms, {:.2} ms without them: {:.3} of it",
            milliseconds(scoped),
            milliseconds(plain),
            scoped.as_secs_f64() / plain.as_secs_f64()
        );
    }
    Ok(())
}

/// Lays messages and both indexes into the store.
async fn fill(store: &SqliteStore, messages: i64, numbers: [i64; 3]) -> Result<()> {
    let [brand, frontline, back] = numbers;
    let filled = store.writer().run(0, move |tx| {
        tx.conn.batch(
            "CREATE VIRTUAL TABLE plain_search USING fts5(subject, text, files, content='',
             contentless_delete=1, tokenize='unicode61 remove_diacritics 2')",
        )?;
        for id in 1..=messages {
            let (queue, text) = match id % OWN_EVERY {
                0 => (frontline, format!("my quiet order {id} is here please answer me")),
                _ => (back, format!("the zebra order {id} is late please answer me soon")),
            };
            let scope = Scope { brand, queue };
            tx.conn
                .prepare("INSERT INTO conversation VALUES (?1, ?2, ?1, 0, 9, ?3, 0, NULL, 1, 1, ?1, 0, 0, 0, 0, '{}')")?
                .execute([id, brand, queue])?;
            tx.conn
                .prepare(
                    "INSERT INTO message (id, conversation, seq, author, channel, arrived_at, body, deleted, flags,
                     explanation) VALUES (?1, ?1, 1, 0, 1, 0, ?1, 0, 0, '{}')",
                )?
                .execute([id])?;
            tx.conn
                .prepare("INSERT INTO message_search (rowid, text) VALUES (?1, ?2)")?
                .execute(params![id, indexed(&text, scope)])?;
            tx.conn
                .prepare("INSERT INTO plain_search (rowid, text) VALUES (?1, ?2)")?
                .execute(params![id, text])?;
            tx.conn
                .prepare("INSERT OR IGNORE INTO search_scope VALUES (?1, ?2)")?
                .execute([brand, queue])?;
        }
        Ok(())
    });
    filled.await.context("filling the store")
}

async fn search(store: &SqliteStore, asked: &str) -> Result<Duration> {
    let actor = Actor {
        role: Role::Agent,
        agent: Some("kim".to_owned()),
        queues: vec!["frontline".parse()?],
        brands: Vec::new(),
        acting: None,
        acts: false,
    };
    let request = SearchRequest::new(actor, Query::parse(asked)?, LIMIT);
    let begun = Instant::now();
    store.search(request).await?;
    Ok(begun.elapsed())
}

/// The same question of an index that knows no queues.
fn search_plainly(conn: &Connection, queue: i64, asked: &str) -> Result<Duration> {
    let words = asked.split(' ').map(|word| match word.strip_suffix('*') {
        Some(beginning) => format!("\"{beginning}\"*"),
        None => format!("\"{word}\""),
    });
    let words: Vec<String> = words.collect();
    let begun = Instant::now();
    let mut statement = conn.prepare(
        "SELECT message.id FROM plain_search CROSS JOIN message ON message.id = plain_search.rowid
         CROSS JOIN conversation ON conversation.id = message.conversation
         WHERE plain_search MATCH ?1 AND message.deleted = 0 AND (conversation.queue = ?2 OR conversation.assignee = 'kim')
         ORDER BY plain_search.rowid DESC LIMIT ?3",
    )?;
    let mut rows = statement.query(params![words.join(" "), queue, LIMIT])?;
    while rows.next()?.is_some() {}
    Ok(begun.elapsed())
}

fn median(mut times: Vec<Duration>) -> Result<Duration> {
    times.sort();
    times
        .get(times.len() / 2)
        .copied()
        .context("measured nothing")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
