//! Sums of the database's pages.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use switchboard::store::sqlite::SqliteStore;

/// Where a database says how many bytes of each page are reserved.
const RESERVED_AT: usize = 20;

/// The first page of a database without a table, as every SQLite writes it: none of a page is reserved.
fn empty_database() -> Vec<u8> {
    let mut page = b"SQLite format 3\0".to_vec();
    // Pages of 4,096 bytes, for readers and writers with rollback, nothing reserved; the fractions that must be so.
    page.extend([0x10, 0x00, 1, 1, 0, 64, 32, 32]);
    page.resize(100, 0);
    // Changed once, one page; its schema of format 4, in UTF-8.
    page[27] = 1;
    page[31] = 1;
    page[47] = 4;
    page[59] = 1;
    page[95] = 1;
    // A leaf of a table, without rows.
    page.extend([0x0d, 0, 0, 0, 0, 0x10, 0x00, 0]);
    page.resize(4_096, 0);
    page
}

fn sums(database: &Path) -> (String, Vec<u8>) {
    let conn = Connection::open(database).unwrap();
    let sums = conn.query_row("PRAGMA page_sums", [], |row| row.get(0));
    (sums.unwrap(), fs::read(database).unwrap())
}

#[test]
fn a_database_that_has_no_sums_gets_them_at_its_next_start_and_keeps_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("switchboard.db");
    fs::write(&database, empty_database()).unwrap();
    let conn = Connection::open(&database).unwrap();
    conn.execute_batch(
        "CREATE TABLE of_before (bytes);
         INSERT INTO of_before SELECT randomblob(3000) FROM json_each('[1,2,3,4,5,6,7,8]')",
    )
    .unwrap();
    let bytes = |conn: &Connection| -> Vec<u8> {
        let all = "SELECT CAST(group_concat(hex(bytes)) AS BLOB) FROM of_before";
        conn.query_row(all, [], |row| row.get(0)).unwrap()
    };
    let before = bytes(&conn);
    drop(conn);
    let (has_sums, file) = sums(&database);
    assert_eq!((has_sums.as_str(), file[RESERVED_AT]), ("0", 0));

    drop(SqliteStore::open(dir.path(), &[], &[]).unwrap());

    let (has_sums, file) = sums(&database);
    assert_eq!((has_sums.as_str(), file[RESERVED_AT]), ("1", 8));
    assert_eq!(bytes(&Connection::open(&database).unwrap()), before);
}

#[test]
fn a_database_that_says_it_has_no_place_for_its_sums_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("switchboard.db");
    drop(SqliteStore::open(dir.path(), &[], &[]).unwrap());
    // Out of the log, as the daemon does once it is long enough.
    let conn = Connection::open(&database).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(conn);
    let mut file = fs::read(&database).unwrap();
    file[RESERVED_AT] = 0;
    fs::write(&database, file).unwrap();

    let refused = SqliteStore::open(dir.path(), &[], &[]).err().unwrap();

    let said = refused.to_string();
    assert!(
        said.contains("its header is damaged") && said.contains("restore a backup"),
        "{said}"
    );
}
