-- The shape of src/store/sqlite/schema.sql on PostgreSQL, as tried by trial.py. Times are UTC
-- microseconds. `number` of a record: its offset << 12 | its partition; numbers that the store gives
-- out (contacts, replies) have 4095 in the low bits, so the two never meet. No foreign keys: what
-- refers is written with what it refers to, in one transaction.
-- The database has locale C: order of text is order of bytes, in every process and every version.

-- Blocks of 1,000: one call a batch. Not transactional, so nobody waits for anybody.
CREATE SEQUENCE id_block INCREMENT BY 1000;
CREATE TABLE meta (key text PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE name (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
-- The router's lock on its partition, its fence and the key by which an unknown commit is looked up.
CREATE TABLE position (partition int PRIMARY KEY, position bigint NOT NULL, epoch bigint NOT NULL)
    WITH (fillfactor = 10);
CREATE TABLE attempt (record bigint PRIMARY KEY, attempts int NOT NULL);
CREATE TABLE dead_letter (
    record bigint PRIMARY KEY, state smallint NOT NULL, reason text NOT NULL, attempts int NOT NULL,
    at bigint NOT NULL
);
CREATE TABLE cursor (channel int PRIMARY KEY, value text NOT NULL);
CREATE TABLE body (id bigint PRIMARY KEY, content bytea NOT NULL);

-- A 16-byte key is a uuid: fixed width, compared as bytes.
-- One partition a day by arrival, made ahead, detached and dropped whole.
CREATE TABLE seen (day int NOT NULL, key uuid NOT NULL, digest bigint NOT NULL, message bigint NOT NULL)
    PARTITION BY LIST (day);
CREATE UNIQUE INDEX seen_key ON seen (key, digest, day);
CREATE TABLE seen_lasting (
    key uuid NOT NULL, digest bigint NOT NULL, message bigint NOT NULL, PRIMARY KEY (key, digest)
);

CREATE TABLE contact (
    id bigint PRIMARY KEY, brand int NOT NULL, verified bool NOT NULL, name text, version bigint NOT NULL,
    created_at bigint NOT NULL, merged_into bigint
) WITH (fillfactor = 80);
-- `key` is a hash of (brand, scope, namespace, address): an index entry has at most 2,704 bytes, and
-- an address may be longer.
CREATE TABLE identity (
    id bigint NOT NULL, key uuid PRIMARY KEY, brand int NOT NULL, scope int NOT NULL, namespace text NOT NULL,
    address text NOT NULL, contact bigint NOT NULL, method text NOT NULL, name text, at bigint NOT NULL
);
CREATE INDEX identity_contact ON identity (contact);
CREATE TABLE suggestion (
    contact bigint NOT NULL, key uuid NOT NULL, namespace text NOT NULL, address text NOT NULL,
    at bigint NOT NULL, PRIMARY KEY (contact, key)
);

-- JSON columns are text: jsonb refuses \u0000, and nothing searches in them.
CREATE TABLE conversation (
    id bigint PRIMARY KEY, brand int NOT NULL, contact bigint NOT NULL, matter bigint NOT NULL,
    status smallint NOT NULL, queue int NOT NULL, priority smallint NOT NULL, assignee text,
    version bigint NOT NULL, last_seq bigint NOT NULL, last_message bigint, opened_at bigint NOT NULL,
    enqueued_at bigint NOT NULL, last_inbound_at bigint NOT NULL, resolved_at bigint, detail text NOT NULL,
    CONSTRAINT conversation_holder CHECK (CASE WHEN status IN (3, 4) THEN assignee IS NOT NULL
                                               WHEN status IN (0, 1) THEN assignee IS NULL ELSE true END)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX conversation_matter ON conversation (contact, matter) WHERE status < 8;
CREATE INDEX conversation_contact ON conversation (contact, id);
CREATE INDEX conversation_status ON conversation (status, id);
CREATE INDEX conversation_assignee ON conversation (assignee, id) WHERE assignee IS NOT NULL;

CREATE TABLE message (
    id bigint PRIMARY KEY, conversation bigint NOT NULL, seq bigint NOT NULL, prev bigint,
    author smallint NOT NULL, channel int NOT NULL, identity bigint, agent text, arrived_at bigint NOT NULL,
    sent_at bigint, delivery smallint, reason text, body bigint NOT NULL, deleted bool NOT NULL,
    duplicate_of bigint, flags int NOT NULL, labels text, explanation text, provider_ids text
) WITH (fillfactor = 95);
CREATE TABLE change (record bigint PRIMARY KEY, message bigint NOT NULL, change text NOT NULL, at bigint NOT NULL);
CREATE INDEX change_message ON change (message, record);
CREATE TABLE pending (
    target uuid NOT NULL, record bigint NOT NULL, change text NOT NULL, at bigint NOT NULL,
    PRIMARY KEY (target, record)
);
CREATE TABLE reference (key uuid PRIMARY KEY, conversation bigint NOT NULL, message bigint NOT NULL);

-- The order of claims. Rows live for minutes and leave dead entries at the front of the index.
CREATE TABLE waiting (
    queue int NOT NULL, fit_class int NOT NULL, rank bigint NOT NULL, id bigint NOT NULL,
    enqueued_at bigint NOT NULL, PRIMARY KEY (queue, fit_class, rank, id)
) WITH (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE outbox (
    id bigint PRIMARY KEY, channel int NOT NULL, conversation bigint NOT NULL, seq bigint NOT NULL,
    state smallint NOT NULL, attempts int NOT NULL, next_at bigint NOT NULL, error text
) WITH (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX outbox_conversation ON outbox (conversation, seq);
CREATE INDEX outbox_due ON outbox (channel, state, next_at);
CREATE TABLE acknowledged (key uuid PRIMARY KEY, at bigint NOT NULL);
CREATE TABLE idempotency (key bytea PRIMARY KEY, fingerprint bytea NOT NULL, message bigint NOT NULL, at bigint NOT NULL);
CREATE TABLE token (
    id bigint PRIMARY KEY, hash bytea NOT NULL UNIQUE, label text NOT NULL, role text NOT NULL, agent text,
    queues text NOT NULL, brands text NOT NULL, created_at bigint NOT NULL, revoked_at bigint
);

-- Events are written here with their effects. `id` is drawn while the conversation is locked, so of
-- one conversation it rises in commit order; over all it does not, and it has gaps.
CREATE TABLE event_new (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind smallint NOT NULL, conversation bigint,
    message bigint, at bigint NOT NULL, detail text
) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
-- The one fenced sequencer moves them here; readers see `seq` without gaps.
CREATE TABLE event (
    seq bigint PRIMARY KEY, kind smallint NOT NULL, conversation bigint, message bigint, at bigint NOT NULL,
    detail text
);
CREATE TABLE sequencer (one bool PRIMARY KEY, epoch bigint NOT NULL, last bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO sequencer VALUES (true, 0, 0);
