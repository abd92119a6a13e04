CREATE TABLE hold (contact INTEGER PRIMARY KEY, reason TEXT NOT NULL, who TEXT NOT NULL, at INTEGER NOT NULL);
CREATE TABLE erasure (
    id INTEGER PRIMARY KEY, contact INTEGER NOT NULL, brand INTEGER NOT NULL, stage INTEGER NOT NULL, place INTEGER NOT NULL,
    asked_at INTEGER NOT NULL, done_at INTEGER, who TEXT NOT NULL, reason TEXT NOT NULL, report TEXT NOT NULL
);
CREATE UNIQUE INDEX erasure_contact ON erasure (contact);
CREATE INDEX erasure_open ON erasure (asked_at) WHERE done_at IS NULL;
CREATE INDEX erasure_asked ON erasure (asked_at, id);
CREATE TABLE erasing (erasure INTEGER NOT NULL, kind INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (erasure, kind, number)) WITHOUT ROWID;
CREATE TABLE erasing_address (
    identity INTEGER PRIMARY KEY, erasure INTEGER NOT NULL, scope INTEGER NOT NULL, namespace TEXT NOT NULL, address TEXT NOT NULL
);
CREATE TABLE erasing_file (sha256 BLOB NOT NULL, erasure INTEGER NOT NULL, PRIMARY KEY (sha256, erasure)) WITHOUT ROWID;
