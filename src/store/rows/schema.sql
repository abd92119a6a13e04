-- The tables of every store, in SQLite's words; store/postgres/schema.rs says them in PostgreSQL's. What one
-- of them has beside these is in its own schema.sql.
--
-- Integer keys inside; times are UTC microseconds; names of brands, channels and queues are rows of `name`.
-- There are no foreign keys: a row is written with what it refers to, in one transaction, and erasure names
-- its order itself.

-- Numbers of the store's own.
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE secret (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- The local bus; empty where the bus is another. A record's body is in `body` under the same number; retention drops log rows only.
CREATE TABLE log (record INTEGER PRIMARY KEY, arrived_at INTEGER NOT NULL, record_key INTEGER NOT NULL);
CREATE TABLE body (id INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE raw (
    id INTEGER PRIMARY KEY, content BLOB, sha256 BLOB, bytes_len INTEGER NOT NULL, arrived_at INTEGER NOT NULL
);
CREATE INDEX raw_arrived ON raw (arrived_at);
CREATE TABLE blob (
    body INTEGER NOT NULL, sha256 BLOB NOT NULL, bytes_len INTEGER NOT NULL, content BLOB,
    PRIMARY KEY (body, sha256)
) WITHOUT ROWID;
CREATE TABLE position (
    partition INTEGER PRIMARY KEY, position INTEGER NOT NULL, epoch INTEGER NOT NULL
);
-- Partitions of a bus elsewhere: the number is in the low bits of its records' numbers.
CREATE TABLE topic_partition (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, at INTEGER NOT NULL, UNIQUE (topic, at)
);
-- Generations of a topic: `first` is the name of its first one; stages as store/partitions.rs counts them. The
-- numbers of its records begin above `base`.
CREATE TABLE bus_generation (
    topic TEXT PRIMARY KEY, first TEXT NOT NULL, number INTEGER NOT NULL, stage INTEGER NOT NULL,
    partitions INTEGER NOT NULL, base INTEGER NOT NULL
) WITHOUT ROWID;
-- The last record of a partition that is sealed; 0: it has none.
CREATE TABLE partition_end (partition INTEGER PRIMARY KEY, record INTEGER NOT NULL);
CREATE TABLE attempt (record INTEGER PRIMARY KEY, attempts INTEGER NOT NULL);
CREATE TABLE dead_letter (
    record INTEGER PRIMARY KEY, state INTEGER NOT NULL, reason TEXT NOT NULL,
    attempts INTEGER NOT NULL, at INTEGER NOT NULL,
    -- What stood beside it on a bus elsewhere, and whether it was copied there for others since it was buried.
    headers TEXT, copied INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX dead_letter_at ON dead_letter (at, record);
CREATE INDEX dead_letter_uncopied ON dead_letter (at, record) WHERE copied = 0;
-- Who does what only one process may do at a time; the row stays, because its epoch counts on.
CREATE TABLE lease (
    name TEXT PRIMARY KEY, holder TEXT NOT NULL, epoch INTEGER NOT NULL, until INTEGER NOT NULL
) WITHOUT ROWID;
-- Which processes there are, and what each says of itself.
CREATE TABLE process (instance TEXT PRIMARY KEY, seen_at INTEGER NOT NULL, said TEXT NOT NULL) WITHOUT ROWID;
-- Up to which event each relay has copied, and under which epoch of its lease.
CREATE TABLE relay (
    name TEXT PRIMARY KEY, position INTEGER NOT NULL, epoch INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE cursor (channel INTEGER PRIMARY KEY, value TEXT NOT NULL);

-- Dedupe keys of sources that can show an item again for ever. Pushed events have generations of
-- three days each, `seen_<number>`, dropped whole.
CREATE TABLE seen_lasting (
    key BLOB NOT NULL, digest INTEGER NOT NULL, message INTEGER NOT NULL, PRIMARY KEY (key, digest)
) WITHOUT ROWID;

CREATE TABLE contact (
    id INTEGER PRIMARY KEY, brand INTEGER NOT NULL, verified INTEGER NOT NULL, name TEXT,
    version INTEGER NOT NULL, created_at INTEGER NOT NULL, merged_into INTEGER, attributes TEXT
);
CREATE TABLE identity (
    id INTEGER PRIMARY KEY, brand INTEGER NOT NULL, scope INTEGER NOT NULL, namespace TEXT NOT NULL,
    address TEXT NOT NULL, contact INTEGER NOT NULL, method TEXT NOT NULL, name TEXT, at INTEGER NOT NULL,
    -- The identity of a known contact that it was proven together with: an unmerge takes both.
    beside INTEGER
);
CREATE UNIQUE INDEX identity_address ON identity (brand, scope, namespace, address);
CREATE INDEX identity_contact ON identity (contact);
CREATE TABLE suggestion (
    contact INTEGER NOT NULL, namespace TEXT NOT NULL, address TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (contact, namespace, address)
) WITHOUT ROWID;

CREATE TABLE conversation (
    id INTEGER PRIMARY KEY, brand INTEGER NOT NULL, contact INTEGER NOT NULL,
    matter INTEGER NOT NULL, status INTEGER NOT NULL, queue INTEGER NOT NULL,
    priority INTEGER NOT NULL, assignee TEXT, version INTEGER NOT NULL, last_seq INTEGER NOT NULL,
    last_message INTEGER, opened_at INTEGER NOT NULL, enqueued_at INTEGER NOT NULL,
    last_inbound_at INTEGER NOT NULL, resolved_at INTEGER, detail TEXT NOT NULL,
    -- One holder: an assigned or wrapping conversation has an assignee, a new or queued one has none.
    CONSTRAINT conversation_holder CHECK (
        CASE WHEN status IN (3, 4) THEN assignee IS NOT NULL WHEN status IN (0, 1) THEN assignee IS NULL ELSE TRUE END
    )
);
-- Statuses 8 and 9 are resolved and closed. One open conversation per contact and matter:
CREATE UNIQUE INDEX conversation_matter ON conversation (contact, matter) WHERE status < 8;
-- Lists are by when it was opened: ids are drawn in blocks where several processes write. The queue lets a list of
-- one queue pass over the others without reading them.
CREATE INDEX conversation_opened ON conversation (opened_at, id, queue);
CREATE INDEX conversation_contact ON conversation (contact, opened_at, id);
CREATE INDEX conversation_status ON conversation (status, opened_at, id);
CREATE INDEX conversation_assignee ON conversation (assignee, opened_at, id) WHERE assignee IS NOT NULL;
CREATE TABLE message (
    id INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, seq INTEGER NOT NULL, prev INTEGER,
    author INTEGER NOT NULL, channel INTEGER NOT NULL, identity INTEGER, agent TEXT,
    arrived_at INTEGER NOT NULL, sent_at INTEGER, delivery INTEGER, reason TEXT,
    body INTEGER NOT NULL, deleted INTEGER NOT NULL, duplicate_of INTEGER, flags INTEGER NOT NULL,
    labels TEXT, explanation TEXT, provider_ids TEXT
);
CREATE TABLE change (
    record INTEGER PRIMARY KEY, message INTEGER NOT NULL, change TEXT NOT NULL, at INTEGER NOT NULL
);
CREATE INDEX change_message ON change (message, record);
CREATE TABLE pending (
    target BLOB NOT NULL, record INTEGER NOT NULL, change TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (target, record)
) WITHOUT ROWID;
CREATE INDEX pending_record ON pending (record);
CREATE INDEX pending_at ON pending (at);
CREATE TABLE reference (
    key BLOB PRIMARY KEY, conversation INTEGER NOT NULL, message INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE waiting (
    queue INTEGER NOT NULL, fit_class INTEGER NOT NULL, rank INTEGER NOT NULL, id INTEGER NOT NULL,
    enqueued_at INTEGER NOT NULL, PRIMARY KEY (queue, fit_class, rank, id)
) WITHOUT ROWID;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY, channel INTEGER NOT NULL, conversation INTEGER NOT NULL, seq INTEGER NOT NULL,
    state INTEGER NOT NULL, attempts INTEGER NOT NULL, next_at INTEGER NOT NULL, error TEXT,
    -- Of one that is to leave later: until then it holds up nobody.
    send_at INTEGER,
    -- Since when it is to leave: when it was written, when it was to leave, or when a person had it tried again.
    due_since INTEGER NOT NULL
);
-- Replies of one conversation leave by `seq`: ids are drawn in blocks where several processes write.
CREATE INDEX outbox_conversation ON outbox (conversation, seq);
CREATE INDEX outbox_due ON outbox (channel, state, next_at);
-- When snoozed conversations wake. Rows of what was woken otherwise are dropped when they are due.
CREATE TABLE timer (due_at INTEGER NOT NULL, conversation INTEGER NOT NULL, PRIMARY KEY (due_at, conversation)) WITHOUT ROWID;
-- Whom a message goes to, where these are several: their places from 1, and how far it got with
-- each; a delivery of NULL is the message's own.
CREATE TABLE recipient (
    message INTEGER NOT NULL, place INTEGER NOT NULL, address TEXT NOT NULL, delivery INTEGER, reason TEXT,
    at INTEGER NOT NULL, PRIMARY KEY (message, place)
) WITHOUT ROWID;
CREATE TABLE acknowledged (key BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
-- Answers kept for use again, and what agents have begun to write: one each in each conversation.
CREATE TABLE macro (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, content TEXT NOT NULL,
    version INTEGER NOT NULL, at INTEGER NOT NULL
);
CREATE INDEX macro_name ON macro (name);
CREATE TABLE draft (
    conversation INTEGER NOT NULL, agent TEXT NOT NULL, content TEXT NOT NULL, version INTEGER NOT NULL,
    at INTEGER NOT NULL, PRIMARY KEY (conversation, agent)
) WITHOUT ROWID;
-- The last version that a draft of an agent had, also once there is none: versions never come again.
CREATE TABLE draft_version (
    conversation INTEGER NOT NULL, agent TEXT NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (conversation, agent)
) WITHOUT ROWID;
-- What requests with an Idempotency-Key came to. Kinds: 0 a message, 1 a conversation, 2 an operation.
CREATE TABLE idempotency (
    key BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, kind INTEGER NOT NULL, number INTEGER NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE event (
    seq INTEGER PRIMARY KEY, kind INTEGER NOT NULL, conversation INTEGER, message INTEGER,
    at INTEGER NOT NULL, detail TEXT
);
CREATE TABLE token (
    id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, label TEXT NOT NULL, role TEXT NOT NULL,
    agent TEXT, queues TEXT NOT NULL, brands TEXT NOT NULL, scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL, revoked_at INTEGER
);

-- Files that were still at their provider when their message was filed. States: 0 pending,
-- 1 stored, 2 failed.
CREATE TABLE file_fetch (
    message INTEGER NOT NULL, place INTEGER NOT NULL, state INTEGER NOT NULL, attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL, reason TEXT, sha256 BLOB, bytes_len INTEGER, content_type TEXT,
    PRIMARY KEY (message, place)
) WITHOUT ROWID;
CREATE INDEX fetch_due ON file_fetch (next_at) WHERE state = 0;
-- Which files are named: only rows whose bytes are not in the row.
CREATE INDEX raw_file ON raw (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX blob_file ON blob (sha256) WHERE content IS NULL;

-- How far a stopped import was: its source is a digest of channel, path and kind.
CREATE TABLE import (source TEXT PRIMARY KEY, place TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;

-- Surgery: merges, splits, moves, contact merges and undoings, each under the number of its event.
-- `one` went into, or gave to, `other`; `detail` is what undoing needs. Kinds: store/surgery.rs.
CREATE TABLE surgery (
    event INTEGER PRIMARY KEY, kind INTEGER NOT NULL, one INTEGER NOT NULL, other INTEGER NOT NULL,
    at INTEGER NOT NULL, undone_by INTEGER, detail TEXT NOT NULL
);
CREATE INDEX surgery_one ON surgery (one, event);
CREATE INDEX surgery_other ON surgery (other, event);
-- Where the messages were that an operation gave another place.
CREATE TABLE place (
    event INTEGER NOT NULL, message INTEGER NOT NULL, conversation INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (event, message)
) WITHOUT ROWID;
-- Contacts that a person told apart after evidence had linked them, `one` the smaller.
CREATE TABLE apart (one INTEGER NOT NULL, other INTEGER NOT NULL, PRIMARY KEY (one, other)) WITHOUT ROWID;
CREATE INDEX contact_merged ON contact (merged_into) WHERE merged_into IS NOT NULL;

-- Where a conversation was before the event of this number moved it: who could see it there and
-- cannot see it now is told that it left. `meta.events_floor`: every event above it is in `event`.
CREATE TABLE departure (
    seq INTEGER NOT NULL, conversation INTEGER NOT NULL, queue INTEGER NOT NULL, assignee TEXT,
    PRIMARY KEY (seq, conversation)
) WITHOUT ROWID;

-- How far search is. `rebuilding`: up to which message its index is made anew, while it is.
CREATE TABLE search_cursor (id INTEGER PRIMARY KEY CHECK (id = 1), event INTEGER NOT NULL, rebuilding INTEGER);
-- The scopes that the index has words in, and conversations that went to another one with more than
-- a step's messages: the newest that is still to be indexed there.
CREATE TABLE search_scope (brand INTEGER NOT NULL, queue INTEGER NOT NULL, PRIMARY KEY (brand, queue)) WITHOUT ROWID;
CREATE TABLE search_moved (conversation INTEGER PRIMARY KEY, message INTEGER NOT NULL);

-- Files uploaded for an answer that has not come yet.
CREATE TABLE upload (
    id INTEGER PRIMARY KEY, token INTEGER NOT NULL, agent TEXT, sha256 BLOB NOT NULL,
    bytes_len INTEGER NOT NULL, content BLOB, name TEXT, content_type TEXT NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE INDEX upload_due ON upload (expires_at);
CREATE INDEX upload_file ON upload (sha256) WHERE content IS NULL;

-- What channels obtained at run time (tokens), sealed: only a running daemon can open it.
CREATE TABLE credential (
    channel INTEGER NOT NULL, name TEXT NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (channel, name)
) WITHOUT ROWID;

-- Retention. Who took part in conversations of others: such a contact stays as long as one of them.
CREATE TABLE guest (
    contact INTEGER NOT NULL, conversation INTEGER NOT NULL, PRIMARY KEY (contact, conversation)
) WITHOUT ROWID;
CREATE INDEX guest_conversation ON guest (conversation);
-- What is left of conversations that are gone: the newest message that is still to be removed.
CREATE TABLE remains (conversation INTEGER PRIMARY KEY, message INTEGER NOT NULL);
CREATE INDEX conversation_ended ON conversation (resolved_at) WHERE status >= 8;
CREATE INDEX reference_message ON reference (message);

-- Alerts: what each target was told last of each trouble, and when each channel was last heard.
CREATE TABLE alert (
    target TEXT NOT NULL, key TEXT NOT NULL, since INTEGER NOT NULL, at INTEGER NOT NULL,
    count INTEGER NOT NULL, what TEXT NOT NULL, PRIMARY KEY (target, key)
) WITHOUT ROWID;
CREATE TABLE heard (channel INTEGER PRIMARY KEY, at INTEGER NOT NULL);
-- Written to find out whether the disk takes it.
CREATE TABLE tried (id INTEGER PRIMARY KEY CHECK (id = 1), at INTEGER NOT NULL);

-- Contacts of whom nothing is removed: a legal hold, why, by whom and since when. Contacts that are merged, or parted,
-- have it both.
CREATE TABLE hold (contact INTEGER PRIMARY KEY, reason TEXT NOT NULL, who TEXT NOT NULL, at INTEGER NOT NULL);
-- Erasures that were asked for: `stage` and `place` say how far each is (store/privacy.rs), `report` what it removed.
CREATE TABLE erasure (
    id INTEGER PRIMARY KEY, contact INTEGER NOT NULL, brand INTEGER NOT NULL, stage INTEGER NOT NULL, place INTEGER NOT NULL,
    asked_at INTEGER NOT NULL, done_at INTEGER, who TEXT NOT NULL, reason TEXT NOT NULL, report TEXT NOT NULL
);
CREATE UNIQUE INDEX erasure_contact ON erasure (contact);
CREATE INDEX erasure_open ON erasure (asked_at) WHERE done_at IS NULL;
CREATE INDEX erasure_asked ON erasure (asked_at, id);
-- While one is under way: the contacts, conversations and records it is of, the addresses it looks for, and the
-- files that its rows named.
CREATE TABLE erasing (erasure INTEGER NOT NULL, kind INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (erasure, kind, number)) WITHOUT ROWID;
CREATE TABLE erasing_address (
    identity INTEGER PRIMARY KEY, erasure INTEGER NOT NULL, scope INTEGER NOT NULL, namespace TEXT NOT NULL, address TEXT NOT NULL
);
CREATE TABLE erasing_file (sha256 BLOB NOT NULL, erasure INTEGER NOT NULL, PRIMARY KEY (sha256, erasure)) WITHOUT ROWID;
