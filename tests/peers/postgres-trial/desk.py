"""What agents and senders do on PostgreSQL, and the sequencer. Locks go: contact, conversation, waiting, outbox, message."""

import random
import time

from router import ASSIGNED, PENDING, QUEUED, RESOLVED, events

CANDIDATES = """SELECT id FROM waiting WHERE queue = %s AND fit_class = 0 ORDER BY rank, id LIMIT 100"""


def claim_chosen(conn, queue, agent, now):
    """The way to take: a try-lock that only claims know keeps claims apart; then the conversation, then its row.

    A claim waits for a router that writes to the conversation, and so overtakes nothing.
    """
    with conn.transaction():
        found = conn.execute(f"""WITH first AS MATERIALIZED ({CANDIDATES})
            SELECT id FROM first WHERE pg_try_advisory_xact_lock(1, hashint8(id)) LIMIT 1""", [queue]).fetchone()
        if not found:
            return None
        status, rank = conn.execute("SELECT status, enqueued_at FROM conversation WHERE id = %s FOR UPDATE", found).fetchone()
        # The list may be older than the commit of the claim that had it before us.
        if status != QUEUED:
            return 0
        unwait(conn, queue, rank, found[0])
        assign(conn, found[0], agent, now)
    return found[0]


def claim_climbing(conn, queue, agent, now):
    """The waiting row first, then the conversation: against the order, so it can deadlock."""
    with conn.transaction():
        found = conn.execute("""SELECT id FROM waiting WHERE queue = %s AND fit_class = 0 ORDER BY rank, id LIMIT 1
            FOR UPDATE SKIP LOCKED""", [queue]).fetchone()
        if not found:
            return None
        status, rank = conn.execute("SELECT status, enqueued_at FROM conversation WHERE id = %s FOR UPDATE", found).fetchone()
        if status != QUEUED:
            return 0
        unwait(conn, queue, rank, found[0])
        assign(conn, found[0], agent, now)
    return found[0]


def claim_skipping(conn, queue, agent, now):
    """The conversation by SKIP LOCKED: in order and without doubles, but it skips what a router is writing to."""
    with conn.transaction():
        found = conn.execute("""SELECT conversation.id, rank FROM waiting JOIN conversation ON conversation.id = waiting.id
            WHERE waiting.queue = %s AND fit_class = 0 AND status = 1 ORDER BY rank, waiting.id LIMIT 1
            FOR UPDATE OF conversation SKIP LOCKED""", [queue]).fetchone()
        if not found:
            return None
        if unwait(conn, queue, found[1], found[0]) == 0:
            return 0
        assign(conn, found[0], agent, now)
    return found[0]


CLAIMS = {"chosen": claim_chosen, "climbing": claim_climbing, "skipping": claim_skipping}


def unwait(conn, queue, rank, number):
    return conn.execute("DELETE FROM waiting WHERE queue = %s AND fit_class = 0 AND rank = %s AND id = %s",
                        [queue, rank, number]).rowcount


def assign(conn, number, agent, now):
    changed = conn.execute("""UPDATE conversation SET status = 3, assignee = %s, version = version + 1
        WHERE id = %s AND status = 1""", [agent, number]).rowcount
    assert changed == 1, "claimed what did not wait"
    events(conn, [(5, number, None, now)])


def reply(conn, ids, number, now):
    """Takes the conversation's lock, so that `seq` and `prev` have no gap."""
    with conn.transaction():
        row = conn.execute("SELECT last_seq, last_message FROM conversation WHERE id = %s FOR UPDATE", [number]).fetchone()
        message, seq = ids.draw(), row[0] + 1
        conn.execute("""INSERT INTO message (id, conversation, seq, prev, author, channel, arrived_at, delivery, body,
            deleted, flags) VALUES (%s, %s, %s, %s, 1, 1, %s, 0, %s, false, 0)""",
                     [message, number, seq, row[1], now, message])
        conn.execute("INSERT INTO body VALUES (%s, %s)", [message, b"{}"])
        conn.execute("INSERT INTO outbox VALUES (%s, 1, %s, %s, 0, 0, 0)", [message, number, seq])
        conn.execute("""UPDATE conversation SET last_seq = %s, last_message = %s, version = version + 1,
            status = %s WHERE id = %s""", [seq, message, PENDING, number])
        events(conn, [(0, number, message, now)])
    return message


def resolve(conn, number, now):
    with conn.transaction():
        status = conn.execute("SELECT status FROM conversation WHERE id = %s FOR UPDATE", [number]).fetchone()[0]
        if status in (ASSIGNED, PENDING):
            conn.execute("""UPDATE conversation SET status = 8, assignee = NULL, resolved_at = %s, version = version + 1
                WHERE id = %s""", [now, number])
            events(conn, [(7, number, None, now)])


def reopen(conn, number, now):
    """Needs to know the contact's other conversations, so it begins at the contact, and looks again who that is."""
    with conn.transaction():
        contact = conn.execute("SELECT contact FROM conversation WHERE id = %s", [number]).fetchone()[0]
        conn.execute("SELECT 1 FROM contact WHERE id = %s FOR UPDATE", [contact])
        row = conn.execute("SELECT contact, status, matter, queue FROM conversation WHERE id = %s FOR UPDATE",
                           [number]).fetchone()
        if row[0] != contact or row[1] != RESOLVED:
            return
        other = conn.execute("SELECT 1 FROM conversation WHERE contact = %s AND matter = 0 AND status < 8",
                             [contact]).fetchone()
        conn.execute("""UPDATE conversation SET status = 1, matter = %s, enqueued_at = %s, resolved_at = NULL,
            version = version + 1 WHERE id = %s""", [number if other else row[2], now, number])
        conn.execute("INSERT INTO waiting VALUES (%s, 0, %s, %s, %s)", [row[3], now, number, now])
        events(conn, [(8, number, None, now)])


def reprioritise(conn, queue, span):
    """A supervisor moves a waiting conversation: conversation, then waiting row."""
    found = conn.execute("SELECT id, rank FROM waiting WHERE queue = %s ORDER BY rank LIMIT 1 OFFSET %s",
                         [queue, random.randrange(span)]).fetchone()
    if not found:
        return
    with conn.transaction():
        status = conn.execute("SELECT status FROM conversation WHERE id = %s FOR UPDATE", [found[0]]).fetchone()[0]
        if status == QUEUED:
            time.sleep(0.001)
            conn.execute("UPDATE waiting SET enqueued_at = enqueued_at + 1 WHERE queue = %s AND rank = %s AND id = %s",
                         [queue, found[1], found[0]])
            conn.execute("UPDATE conversation SET version = version + 1 WHERE id = %s", [found[0]])


def lease(conn, channel, limit, now):
    """Outbox rows, then their messages. Of one conversation only the first that is not settled, by `seq`."""
    with conn.transaction():
        rows = conn.execute("""SELECT id, conversation, seq FROM outbox WHERE channel = %s AND state = 0 AND next_at <= %s
            AND NOT EXISTS (SELECT 1 FROM outbox AS earlier WHERE earlier.conversation = outbox.conversation
                            AND earlier.seq < outbox.seq AND earlier.state < 2)
            ORDER BY next_at, id LIMIT %s FOR UPDATE SKIP LOCKED""", [channel, now, limit]).fetchall()
        leased = [row[0] for row in rows]
        conn.execute("UPDATE outbox SET state = 1, attempts = attempts + 1 WHERE id = ANY(%s)", [leased])
        conn.execute("UPDATE message SET delivery = 1 WHERE id = ANY(%s)", [leased])
    return rows


def deliver(conn, number, conversation, delivery, backwards=False):
    """A receipt or a settlement: conversation, outbox row, message. Backwards is as the SQLite store has it."""
    steps = [lambda: conn.execute("DELETE FROM outbox WHERE id = %s AND state = 1", [number]),
             lambda: conn.execute("UPDATE message SET delivery = %s WHERE id = %s AND delivery < %s",
                                  [delivery, number, delivery])]
    with conn.transaction():
        conn.execute("SELECT 1 FROM conversation WHERE id = %s FOR UPDATE", [conversation])
        for step in reversed(steps) if backwards else steps:
            step()


class Sequencer:
    """Gives events their `seq` after commit. Fenced: who was replaced changes no row and stops."""

    def __init__(self, cluster):
        self.conn = cluster.connect()
        self.epoch = self.conn.execute("UPDATE sequencer SET epoch = epoch + 1 RETURNING epoch").fetchone()[0]

    def step(self, limit=5000):
        with self.conn.transaction():
            row = self.conn.execute("SELECT last FROM sequencer WHERE epoch = %s FOR UPDATE", [self.epoch]).fetchone()
            if row is None:
                return None
            moved = self.conn.execute("""WITH moved AS (
                DELETE FROM event_new WHERE id IN (SELECT id FROM event_new ORDER BY id LIMIT %s) RETURNING *)
                INSERT INTO event SELECT %s + row_number() OVER (ORDER BY id), kind, conversation, message, at, detail
                FROM moved""", [limit, row[0]]).rowcount
            self.conn.execute("UPDATE sequencer SET last = last + %s", [moved])
        return moved
