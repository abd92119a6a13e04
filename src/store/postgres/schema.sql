-- What the store on PostgreSQL has beside the tables of every store.

-- Blocks of ids.
CREATE SEQUENCE id_block;

-- Which transaction of a session was committed last: looked at where the answer to a COMMIT was lost.
CREATE TABLE committed (
    session bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number bigint NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10);

-- An entry of a B-tree has 2,704 bytes at most, and an address has no bound.
DROP INDEX identity_address;
CREATE UNIQUE INDEX identity_address ON identity (brand, scope, namespace, md5(address), left(address, 200));
CREATE INDEX identity_by_address ON identity USING hash (address);
ALTER TABLE suggestion DROP CONSTRAINT suggestion_pkey;
CREATE UNIQUE INDEX suggestion_address ON suggestion (contact, namespace, md5(address), left(address, 200));

-- The words of search, each behind the brand and queue it was said in (search.rs).
CREATE TABLE message_search (rowid bigint PRIMARY KEY, words tsvector NOT NULL);
CREATE INDEX message_search_words ON message_search USING gin (words);
CREATE TABLE contact_search (rowid bigint PRIMARY KEY, words tsvector NOT NULL);
CREATE INDEX contact_search_words ON contact_search USING gin (words);

-- An update of a conversation that changes no indexed value touches no index while there is room on its page.
ALTER TABLE conversation SET (fillfactor = 70);
ALTER TABLE contact SET (fillfactor = 80);
ALTER TABLE message SET (fillfactor = 95);
ALTER TABLE position SET (fillfactor = 10);
-- Rows that live for minutes leave dead entries at the front of the index.
ALTER TABLE waiting SET (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0);
ALTER TABLE outbox SET (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

-- As SQLite has it, for numbers at the top of an object: '$.name'.
CREATE FUNCTION json_extract(object text, path text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT CAST(CAST(object AS json) ->> substr(path, 3) AS bigint) $$;
