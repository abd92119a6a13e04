-- What the store on PostgreSQL has beside the tables of every store.

-- Blocks of ids.
CREATE SEQUENCE id_block;

-- Which transaction of a session was committed last: looked at where the answer to a COMMIT was lost. The server's
-- process tells whether the session is still there; one that was found gone is forgotten an hour later.
CREATE TABLE committed (
    session bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number bigint NOT NULL,
    pid integer NOT NULL, begun_at timestamptz NOT NULL, gone_at timestamptz
) WITH (fillfactor = 10);

-- Ends a transaction under its number, unless somebody who looked for it gave it up (transaction.rs): bytes of it may
-- still be on their way then.
CREATE FUNCTION commit_as(this bigint, next bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE committed SET number = next WHERE session = this AND number = next - 1;
    IF NOT FOUND THEN
        RAISE 'transaction % of session % was given up', next, this;
    END IF;
END $$;

-- Events as they are written, until they have a number. `id` is drawn under the conversation's lock: of one
-- conversation it rises in the order of commits; over all it does not, and it has gaps. A departure is told of
-- with the event that follows it.
CREATE SEQUENCE event_order;
CREATE TABLE event_new (
    id bigint PRIMARY KEY DEFAULT nextval('event_order'), kind bigint NOT NULL, conversation bigint,
    message bigint, at bigint NOT NULL, detail text COLLATE "C"
) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE departure_new (
    id bigint PRIMARY KEY DEFAULT nextval('event_order'), conversation bigint NOT NULL,
    queue bigint NOT NULL, assignee text COLLATE "C"
) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
-- The last number that an event was given. Whoever gives numbers has this row.
CREATE TABLE sequencer (one boolean PRIMARY KEY CHECK (one), last bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO sequencer VALUES (TRUE, 0);
-- Numbers of operations of surgery: above those of all events, so that neither is taken for the other.
CREATE SEQUENCE operation START 72057594037927936;

-- Numbers what is committed, up to so many events. Each statement sees what was committed before it, so also what
-- was while the row was waited for.
CREATE FUNCTION number_events(at_most bigint, OUT last bigint, OUT given bigint) LANGUAGE plpgsql AS $$
BEGIN
    SELECT sequencer.last, 0 INTO last, given FROM sequencer;
    IF NOT EXISTS (SELECT FROM event_new) THEN
        RETURN;
    END IF;
    SELECT sequencer.last INTO last FROM sequencer FOR UPDATE;
    WITH moved AS (
        DELETE FROM event_new WHERE id IN (SELECT id FROM event_new ORDER BY id LIMIT at_most) RETURNING *
    ), departing AS (
        DELETE FROM departure_new WHERE id < (SELECT max(id) FROM moved) RETURNING *
    ), all_of AS (
        SELECT id, kind, conversation, message, at, detail, NULL AS queue, NULL AS assignee FROM moved
        UNION ALL
        SELECT id, NULL, conversation, NULL, NULL, NULL, queue, assignee FROM departing
    ), numbered AS (
        SELECT *, number_events.last + count(kind) OVER (ORDER BY id) AS through FROM all_of
    ), told AS (
        INSERT INTO departure (seq, conversation, queue, assignee)
        SELECT through + 1, conversation, queue, assignee FROM numbered WHERE kind IS NULL ORDER BY id
        ON CONFLICT DO NOTHING
    ), kept AS (
        INSERT INTO event (seq, kind, conversation, message, at, detail)
        SELECT through, kind, conversation, message, at, detail FROM numbered WHERE kind IS NOT NULL RETURNING 1
    )
    SELECT count(*) INTO given FROM kept;
    IF given > 0 THEN
        UPDATE sequencer SET last = sequencer.last + given RETURNING sequencer.last INTO last;
        PERFORM pg_notify('switchboard', 'events ' || last);
    END IF;
END $$;

-- An entry of a B-tree has 2,704 bytes at most, and an address has no bound.
DROP INDEX identity_address;
-- Whoever looks an address up goes by that: an index that began with the brand would be taken instead, and read whole.
CREATE UNIQUE INDEX identity_address ON identity (md5(address), left(address, 200), brand, scope, namespace);
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
