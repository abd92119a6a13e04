//! Passwords that are changed while connections are made.

use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use switchboard::store::postgres::{Config, Database, PostgresStore, Risk};
use switchboard::store::{Store, StoreError};

use super::cursor;
use crate::peers::postgres::Postgres;
use crate::peers::{self, Chaos};
use crate::support::channel_id;

/// Connections that are begun before the first of them is refused.
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_not_taken_is_tried_now_and_then_and_a_new_one_is_read() {
    if !peers::enabled() {
        return;
    }
    let server = Postgres::asking("kim", "first");
    let name = server.make_database();
    let chaos = Chaos::start(server.port);
    let password = Arc::new(Mutex::new("first"));
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(chaos.port)
        .user("kim")
        .dbname(&name);
    let read = password.clone();
    let database = Database::from(config).with_password(Arc::new(move || {
        Ok(SecretString::from(*read.lock().unwrap()))
    }));
    let names = ["main", "support-mail"].map(str::to_owned).to_vec();
    let store = PostgresStore::open(database, names, Vec::new(), vec![Risk::Fsync]).await;
    let store = store.expect("the password is right");
    let channel = channel_id("support-mail");
    assert_eq!(store.save_cursor(&channel, cursor("on")).await, Ok(()));
    server.run("postgres", "ALTER ROLE kim PASSWORD 'second'");
    let before = chaos.connections();
    chaos.cut_all();
    let refused = async || {
        let saved = store.save_cursor(&channel, cursor("off")).await;
        matches!(saved, Err(StoreError::Unauthorized(_)))
    };
    crate::support::eventually("a connection to be refused", refused).await;
    for _ in 0..200 {
        assert!(refused().await, "it is known that the password is wrong");
    }
    let tried = chaos.connections() - before;
    assert!(tried <= AT_ONCE, "{tried} connections were begun");
    *password.lock().unwrap() = "second";
    crate::support::eventually("the new one to be tried", async || {
        store.save_cursor(&channel, cursor("again")).await.is_ok()
    })
    .await;
}
