-- From version 1 to version 2: files that are fetched, files that nothing names.
-- Files that were still at their provider when their message was filed. States: 0 pending,
-- 1 stored, 2 failed.
CREATE TABLE fetch (
    message INTEGER NOT NULL, place INTEGER NOT NULL, state INTEGER NOT NULL, attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL, reason TEXT, sha256 BLOB, bytes_len INTEGER, content_type TEXT,
    PRIMARY KEY (message, place)
) WITHOUT ROWID;
CREATE INDEX fetch_due ON fetch (next_at) WHERE state = 0;
-- Which files are named: only rows whose bytes are not in the row.
CREATE INDEX raw_file ON raw (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX blob_file ON blob (sha256) WHERE content IS NULL;
