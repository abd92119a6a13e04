"""The router's commit on PostgreSQL: lock in one order, read under the locks, decide once, write by UNNEST.

`decide` stands for src/router: dedupe, identify (with linking), join or open, queue. It is pure.
"""

import random
import uuid

import psycopg

QUEUED, ASSIGNED, PENDING, RESOLVED = 1, 3, 5, 8
DETAIL = '{"subject":"where is my parcel","participants":[' + ",".join(
    ['{"namespace":"email","address":"somebody@example.org","verified":true,"role":"customer"}'] * 3) + "]}"
EXPLANATION = '{"dedupe":"first","join":{"rule":4,"reason":"contact"},"identity":{"found":"known"}}'
OWN = 4095  # the low bits of numbers that the store gives out

COLUMNS = ("id brand contact matter status queue priority assignee version last_seq last_message opened_at "
           "enqueued_at last_inbound_at resolved_at detail").split()
TYPES = ("bigint int bigint bigint smallint int smallint text bigint bigint bigint bigint bigint bigint bigint "
         "text").split()


class Stale(Exception):
    """Another router owns the partition, or it moved on."""


class Widen(Exception):
    """A contact is needed that is not locked: again, with the larger set."""


class Ids:
    """Numbers of the store's own, a block a call."""

    def __init__(self, conn):
        self.conn, self.next, self.end = conn, 0, 0

    def draw(self):
        if self.next == self.end:
            self.next = self.conn.execute("SELECT nextval('id_block')").fetchone()[0]
            self.end = self.next + 1000
        self.next += 1
        return self.next << 12 | OWN


def unnest(conn, sql, types, rows):
    """Runs `sql`, with `unnest(...)` of the rows' columns where it says {rows}."""
    if not rows:
        return None
    columns = [list(column) for column in zip(*rows)]
    places = ", ".join(f"%b::{kind}[]" if kind == "bytea" else f"%s::{kind}[]" for kind in types)
    return conn.execute(sql.format(rows=f"unnest({places})"), columns)


def own(conn, partition):
    return conn.execute(
        """INSERT INTO position VALUES (%s, 0, 1) ON CONFLICT (partition) DO UPDATE
           SET epoch = position.epoch + 1 RETURNING position, epoch""", [partition]).fetchone()


def conversation(row):
    return dict(zip(COLUMNS, row))


class Facts:
    def __init__(self):
        self.seen, self.identities, self.contacts, self.conversations = {}, {}, {}, {}
        self.fresh = {}  # identities that this transaction made: (identity, its contact)


class Router:
    def __init__(self, cluster, partition, without=()):
        self.conn = cluster.connect()
        self.partition, self.without = partition, without
        self.ids = Ids(self.conn)
        self.position, self.epoch = own(self.conn, partition)
        self.widened = self.collided = 0

    def route(self, batch, now):
        """Decides and commits a batch; tries again with what it turned out to need."""
        while True:
            try:
                with self.conn.transaction():
                    verdicts = self.work(batch, now)
                self.position = batch[-1]["number"]
                return verdicts
            except Widen:
                self.widened += 1
            except psycopg.errors.UniqueViolation as error:
                if error.diag.constraint_name != "conversation_matter":
                    raise
                # An agent reopened a conversation that is not among the last of its contact.
                self.collided += 1

    def work(self, batch, now):
        moved = self.conn.execute(
            "UPDATE position SET position = %s WHERE partition = %s AND position = %s AND epoch = %s",
            [batch[-1]["number"], self.partition, self.position, self.epoch])
        if moved.rowcount == 0 and "epoch" not in self.without:
            raise Stale(f"partition {self.partition}")
        facts = self.load(batch)
        effects = decide(batch, facts, self.ids, now)
        write(self.conn, facts, effects, now)
        return effects["verdicts"]

    def load(self, batch):
        """Locks and reads: identities by key (inserted on conflict do nothing), contacts by id, conversations by id."""
        conn, facts = self.conn, Facts()
        wanted = sorted({key for message in batch for key in message["identities"]})
        known = identities(conn, wanted)
        unknown = [key for key in wanted if key not in known]
        if "order" in self.without:
            random.shuffle(unknown)
        rows = [(self.ids.draw(), key, self.ids.draw(), 0) for key in unknown]
        order = "" if "order" in self.without else "ORDER BY key"
        made = unnest(conn, f"""INSERT INTO identity (id, key, brand, scope, namespace, address, contact, method, at)
            SELECT id, key, 1, 0, 'email', key::text || '@example.org', contact, 'dmarc', at
            FROM {{rows}} AS new (id, key, contact, at) {order} ON CONFLICT DO NOTHING RETURNING key, id, contact""",
            ["bigint", "uuid", "bigint", "bigint"], rows)
        facts.fresh = {key: (identity, contact) for key, identity, contact in (made.fetchall() if made else [])}
        # Of those that another router made meanwhile, its commit is what we waited for: now they are there.
        if len(facts.fresh) < len(unknown):
            known |= identities(conn, [key for key in unknown if key not in facts.fresh])
        contacts = sorted(set(known.values()))
        if "contacts" not in self.without:
            order = "random()" if "order" in self.without else "id"
            rows = conn.execute(
                f"SELECT id, version FROM contact WHERE id = ANY(%s) ORDER BY {order} FOR UPDATE", [contacts]).fetchall()
        else:
            rows = conn.execute("SELECT id, version FROM contact WHERE id = ANY(%s)", [contacts]).fetchall()
        facts.contacts = {number: {"version": version, "conversations": []} for number, version in rows}
        # A merge may have given them to another contact before we had the lock.
        if "reread" not in self.without:
            known = identities(conn, list(known))
        if not set(known.values()) <= set(facts.contacts):
            raise Widen
        facts.identities = known
        for row in conn.execute(f"""SELECT {", ".join(COLUMNS)} FROM conversation WHERE id IN (
                SELECT id FROM conversation WHERE contact = ANY(%(of)s) AND status < 8 UNION ALL
                SELECT last.id FROM unnest(%(of)s::bigint[]) AS contact (id) CROSS JOIN LATERAL (
                    SELECT id FROM conversation WHERE conversation.contact = contact.id AND status = 8
                    ORDER BY id DESC LIMIT 5) AS last)
                ORDER BY id FOR UPDATE""", {"of": list(facts.contacts)}):
            one = conversation(row)
            facts.conversations[one["id"]] = one
            if one["contact"] not in facts.contacts:
                raise RuntimeError("a conversation moved to a contact that is not locked")
            facts.contacts[one["contact"]]["conversations"].append(one["id"])
        keys = [message["key"] for message in batch]
        for key, digest, message in conn.execute(
                "SELECT key, digest, message FROM seen WHERE key = ANY(%s::uuid[])", [keys]):
            facts.seen.setdefault(key, []).append((digest, message))
        return facts


def identities(conn, keys):
    found = conn.execute("SELECT key, contact FROM identity WHERE key = ANY(%s::uuid[])", [keys])
    return dict(found.fetchall())


def decide(batch, facts, ids, now):
    effects = {"seen": [], "contacts": {}, "identities": [], "merges": [], "new": [], "touched": {}, "messages": [],
               "events": [], "verdicts": []}
    for message in batch:
        seen = facts.seen.setdefault(message["key"], [])
        if any(digest == message["digest"] for digest, _ in seen):
            effects["verdicts"].append("duplicate")
            continue
        seen.append((message["digest"], message["number"]))
        effects["seen"].append((message["key"], message["digest"], message["number"]))
        contact = identify(message, facts, effects, now)
        file(message, contact, facts, effects, now)
        effects["verdicts"].append("filed")
    return effects


def identify(message, facts, effects, now):
    known = sorted({facts.identities[key] for key in message["identities"] if key in facts.identities})
    if known:
        contact = known[0]
    else:
        contact = facts.fresh[message["identities"][0]][1]
        facts.contacts[contact] = {"version": 0, "conversations": []}
        effects["contacts"][contact] = now
    for other in known[1:]:
        link(other, contact, facts, effects, now)
    for key in message["identities"]:
        if key not in facts.identities:
            facts.identities[key] = contact
            effects["identities"].append((key, contact))
    return contact


def link(source, into, facts, effects, now):
    for key, contact in facts.identities.items():
        if contact == source:
            facts.identities[key] = into
    for number in facts.contacts[source]["conversations"]:
        facts.conversations[number]["contact"] = into
    facts.contacts[into]["conversations"] += facts.contacts[source]["conversations"]
    facts.contacts[source]["conversations"] = []
    effects["merges"].append((source, into, now))
    effects["events"].append((9, None, None, now))
    mine = [facts.conversations[number] for number in facts.contacts[into]["conversations"]]
    empty = sorted((one for one in mine if one["status"] < 8 and one["matter"] == 0),
                   key=lambda one: (one["opened_at"], one["id"]))
    for one in empty[1:]:
        one["matter"] = one["id"]
    for one in empty:
        touch(one, effects)


def file(message, contact, facts, effects, now):
    mine = [facts.conversations[number] for number in facts.contacts[contact]["conversations"]]
    is_open = [one for one in mine if one["status"] < 8]
    is_resolved = [one for one in mine if one["status"] == RESOLVED]
    joined = next((one for one in sorted(is_open, key=lambda one: (one["matter"], one["id"]))), None)
    if joined is None and is_resolved:
        joined = max(is_resolved, key=lambda one: one["id"])
    if joined is None:
        joined = dict(zip(COLUMNS, [message["number"], 1, contact, 0, QUEUED, message["queue"], 1, None, 0, 0, None, now,
                                    now, now, None, DETAIL]))
        facts.conversations[joined["id"]] = joined
        facts.contacts[contact]["conversations"].append(joined["id"])
        effects["new"].append(joined["id"])
        effects["events"].append((3, joined["id"], None, now))
    elif joined["status"] == RESOLVED:
        joined.update(status=QUEUED, assignee=None, resolved_at=None, enqueued_at=now)
    elif joined["status"] == PENDING:
        joined.update(status=ASSIGNED if joined["assignee"] else QUEUED)
    joined["last_seq"] += 1
    effects["messages"].append((message["number"], joined["id"], joined["last_seq"], joined["last_message"], now,
                                message["body"]))
    joined["last_message"] = message["number"]
    effects["events"].append((0, joined["id"], message["number"], now))
    touch(joined, effects)


def touch(one, effects):
    one["version"] += 1
    effects["touched"][one["id"]] = one


def write(conn, facts, effects, now):
    unnest(conn, """INSERT INTO seen SELECT %d, key, digest, message FROM {rows} AS new (key, digest, message)
        ORDER BY key""" % day(now), ["uuid", "bigint", "bigint"], effects["seen"])
    unnest(conn, "INSERT INTO contact SELECT id, 1, true, NULL, 0, at, NULL FROM {rows} AS new (id, at)",
           ["bigint", "bigint"], list(effects["contacts"].items()))
    changed = [(key, contact) for key, contact in effects["identities"] if facts.fresh[key][1] != contact]
    unnest(conn, """UPDATE identity SET contact = new.contact FROM {rows} AS new (key, contact)
        WHERE identity.key = new.key""", ["uuid", "bigint"], changed)
    used = {key for key, _ in effects["identities"]}
    unused = [key for key in facts.fresh if key not in used]
    if unused:
        conn.execute("DELETE FROM identity WHERE key = ANY(%s::uuid[])", [unused])
    for source, into, _ in effects["merges"]:
        conn.execute("UPDATE identity SET contact = %s WHERE contact = %s", [into, source])
        # Of two without a matter one gets its own below: until then they stand under their own numbers.
        conn.execute("""UPDATE conversation SET contact = %s, version = version + 1,
            matter = CASE WHEN matter = 0 AND status < 8 THEN id ELSE matter END WHERE contact = %s""", [into, source])
        conn.execute("UPDATE contact SET merged_into = %s, version = version + 1 WHERE id = %s", [into, source])
    write_conversations(conn, effects)
    number = [row[0] for row in effects["messages"]]
    unnest(conn, """INSERT INTO message (id, conversation, seq, prev, author, channel, arrived_at, body, deleted, flags,
        explanation) SELECT id, conversation, seq, prev, 0, 1, at, id, false, 0, explanation
        FROM {rows} AS new (id, conversation, seq, prev, at, explanation)""",
           ["bigint", "bigint", "bigint", "bigint", "bigint", "text"],
           [(*row[:5], EXPLANATION) for row in effects["messages"]])
    unnest(conn, "INSERT INTO body SELECT * FROM {rows}", ["bigint", "bytea"],
           list(zip(number, [row[5] for row in effects["messages"]])))
    events(conn, effects["events"])


def write_conversations(conn, effects):
    """Those with a matter of their own first: a unique index is checked row by row, in any order within a statement."""
    new = set(effects["new"])
    insert = [tuple(one.values()) for one in effects["touched"].values() if one["id"] in new]
    unnest(conn, "INSERT INTO conversation SELECT * FROM {rows}", TYPES, insert)
    changed = [one for one in effects["touched"].values() if one["id"] not in new]
    before = {}
    if changed:
        before = dict(conn.execute(
            "SELECT id, status FROM conversation WHERE id = ANY(%s)", [[one["id"] for one in changed]]).fetchall())
    # All columns at once: whether an index entry is needed PostgreSQL sees by the values.
    sets = ", ".join(f"{column} = new.{column}" for column in COLUMNS[1:])
    for part in ([one for one in changed if one["matter"]], [one for one in changed if not one["matter"]]):
        unnest(conn, f"""UPDATE conversation SET {sets} FROM {{rows}} AS new ({", ".join(COLUMNS)})
            WHERE conversation.id = new.id""", TYPES, [tuple(one.values()) for one in part])
    waits = [one for one in effects["touched"].values()
             if one["status"] == QUEUED and before.get(one["id"]) != QUEUED]
    unnest(conn, "INSERT INTO waiting SELECT queue, 0, at, id, at FROM {rows} AS new (queue, at, id)",
           ["int", "bigint", "bigint"], [(one["queue"], one["enqueued_at"], one["id"]) for one in waits])


def events(conn, rows):
    unnest(conn, """INSERT INTO event_new (kind, conversation, message, at)
        SELECT kind, conversation, message, at FROM {rows} WITH ORDINALITY
        AS new (kind, conversation, message, at, place) ORDER BY place""",
           ["smallint", "bigint", "bigint", "bigint"], rows)


def day(now):
    return now // (24 * 60 * 60 * 1_000_000)


def generation(conn, number):
    """Makes a generation beside the parent and attaches it: nobody who reads or writes the others waits."""
    conn.execute(f"CREATE TABLE IF NOT EXISTS seen_{number} (LIKE seen INCLUDING INDEXES, CHECK (day = {number}))")
    conn.execute(f"ALTER TABLE seen ATTACH PARTITION seen_{number} FOR VALUES IN ({number})")


def message(partition, offset, people, queue=1, key=None, digest=7):
    return {"number": offset << 12 | partition, "key": key or uuid.uuid4(), "digest": digest,
            "identities": list(people), "queue": queue, "body": random.randbytes(1200)}
