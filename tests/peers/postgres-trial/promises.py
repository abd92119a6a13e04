"""Promises 3 and 6, and early changes: what routers do to each other, and to agents."""

import random
import threading
import time
import uuid

import psycopg

import desk
import router
from router import Router, Stale, message
from support import NOW, check, one, race, say


def whole(cluster, messages):
    """Every message once, timelines without a gap, waiting rows as the states say, no contact half merged."""
    with cluster.connect() as conn:
        check(one(conn, "SELECT count(*) FROM body") == one(conn, "SELECT count(*) FROM message"), "bodies")
        check(one(conn, "SELECT count(*) FROM message WHERE author = 0") == messages, "messages are lost or doubled")
        check(one(conn, "SELECT count(*) FROM (SELECT key FROM seen GROUP BY key HAVING count(*) > 1) AS t") == 0, "doubles")
        check(one(conn, """SELECT count(*) FROM conversation LEFT JOIN LATERAL (SELECT count(*) AS n, max(seq) AS last,
            count(DISTINCT seq) AS seqs, count(prev) AS links, count(DISTINCT prev) AS distinct_links FROM message
            WHERE message.conversation = conversation.id) AS m ON true
            WHERE n <> last_seq OR last <> last_seq OR seqs <> n OR links <> n - 1 OR distinct_links <> links""") == 0,
              "a timeline has gaps or forks")
        check(one(conn, """SELECT count(*) FROM conversation FULL JOIN waiting ON waiting.id = conversation.id
            WHERE (status = 1) <> (waiting.id IS NOT NULL) OR waiting.rank <> conversation.enqueued_at""") == 0,
              "waiting rows and states disagree")
        check(one(conn, """SELECT count(*) FROM conversation JOIN contact ON contact.id = conversation.contact
            WHERE merged_into IS NOT NULL""") == 0, "a merged contact has conversations")
        check(one(conn, """SELECT count(*) FROM identity LEFT JOIN contact ON contact.id = identity.contact
            WHERE merged_into IS NOT NULL OR contact.id IS NULL""") == 0, "an identity belongs to a merged contact, or to none")


def routers(cluster, without=(), rounds=60, count=4):
    """Promises 3 and 6: four routers, shared customers, some with identities nobody knew, some found to be one person."""
    cluster.reset()
    before = cluster.deadlocks()
    with cluster.connect() as conn:
        router.generation(conn, router.day(NOW))
    people = [[uuid.uuid4() for _ in range(3)] for _ in range(150)]
    all_routers = [Router(cluster, partition, without) for partition in range(count)]
    sent, stop = [0] * count, threading.Event()

    def route(mine):
        offset, told = 0, []
        for _ in range(rounds):
            batch = []
            for _ in range(60):
                offset += 1
                person = random.choice(people)
                # A mail, a DM that also proves the address, or two accounts seen to be one person's.
                known = random.choice([[person[0]], [person[1], person[0]], [person[1]], [person[2], person[1]], [person[2]]])
                again = random.choice(told) if told and random.random() < 0.05 else None
                batch.append(message(mine.partition, offset, known, key=again))
                if not again:
                    told.append(batch[-1]["key"])
                    sent[mine.partition] += 1
            random.shuffle(batch)
            batch.sort(key=lambda one: one["number"])
            mine.route(batch, NOW + offset)

    def work():
        with cluster.connect() as conn:
            ids = router.Ids(conn)
            while not stop.is_set():
                found = desk.claim_chosen(conn, 1, "ada", NOW)
                some = found or one(conn, "SELECT coalesce((SELECT id FROM conversation TABLESAMPLE SYSTEM_ROWS(1)), 0)")
                if not some:
                    continue
                if found:
                    desk.reply(conn, ids, found, NOW)
                if random.random() < 0.7:
                    desk.resolve(conn, some, NOW)
                elif random.random() < 0.5:
                    try:
                        desk.reopen(conn, some, NOW)
                    except psycopg.errors.UniqueViolation:
                        pass

    with cluster.connect() as conn:
        conn.execute("CREATE EXTENSION IF NOT EXISTS tsm_system_rows")
    errors = []

    def lead():
        errors.extend(race(*[lambda mine=mine: route(mine) for mine in all_routers]))
        stop.set()

    started = time.monotonic()
    errors += race(lead, work, work, work)
    took = time.monotonic() - started
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise AssertionError(f"{type(error).__name__}: {error}".splitlines()[0])
    deadlocks = cluster.deadlocks() - before
    check(deadlocks == 0, f"{deadlocks} deadlocks")
    whole(cluster, sum(sent))
    with cluster.connect() as conn:
        merges = one(conn, "SELECT count(*) FROM contact WHERE merged_into IS NOT NULL")
        joined = one(conn, "SELECT count(DISTINCT contact) FROM identity")
    widened = sum(mine.widened for mine in all_routers)
    collided = sum(mine.collided for mine in all_routers)
    say(f"  {count} routers, {sum(sent)} messages of 150 customers, 3 agents, {took:.1f} s: every message once, {merges} merges, "
        f"{joined} contacts left, {widened} batches tried again with more contacts, {collided} with a reopened "
        f"conversation, 0 deadlocks")


def same_millisecond(cluster, without=(), rounds=300):
    """Promise 6: two routers see a customer's mail and DM at once. Unknown so far, and known."""
    cluster.reset()
    with cluster.connect() as conn:
        router.generation(conn, router.day(NOW))
    pair = [Router(cluster, partition, without) for partition in range(2)]
    for turn in range(rounds):
        mail, account = uuid.uuid4(), uuid.uuid4()
        batches = [[message(0, turn + 1, [mail])], [message(1, turn + 1, [account, mail])]]
        errors = race(*[lambda mine=mine, batch=batch: mine.route(batch, NOW) for mine, batch in zip(pair, batches)])
        check(not errors, f"{errors}")
    whole(cluster, 2 * rounds)
    with cluster.connect() as conn:
        found = one(conn, "SELECT count(*) FROM conversation"), one(conn, "SELECT count(*) FROM contact")
    check(found == (rounds, rounds), f"{found} conversations and contacts of {rounds} customers")
    say(f"  {rounds} customers, unknown until their mail and their DM came at once: {found[0]} conversations, {found[1]} contacts, "
        f"{pair[0].widened + pair[1].widened} tried again")


def stale(cluster, without=()):
    """Promise 3: who lost the partition writes nothing; who hangs in a transaction holds it for a bounded time."""
    cluster.reset()
    with cluster.connect() as conn:
        router.generation(conn, router.day(NOW))
    old = Router(cluster, 0, without)
    old.route([message(0, 1, [uuid.uuid4()])], NOW)
    new = Router(cluster, 0)
    batch = [message(0, 2, [uuid.uuid4()])]
    outcomes = []
    for each in (old, new, old):
        try:
            each.route(batch, NOW)
            outcomes.append("wrote")
        except Stale:
            outcomes.append("stopped")
    check(outcomes == ["stopped", "wrote", "stopped"], f"{outcomes}")
    whole(cluster, 2)
    with cluster.connect(autocommit=False) as hung:
        hung.execute("SET idle_in_transaction_session_timeout = '500ms'")
        hung.commit()
        hung.execute("UPDATE position SET position = position WHERE partition = 0")
        started = time.monotonic()
        Router(cluster, 0)
        waited = time.monotonic() - started
        hung.close()
    say(f"  the old owner stopped, the new one wrote; one that hung in a transaction was waited for {waited:.2f} s (its time-out: 0.5 s)")


def unknown_commit(cluster, without=(), rounds=400):
    """Promise 3: the connection goes while COMMIT is under way. The position, read FOR UPDATE, says what became of it."""
    cluster.reset()
    with cluster.connect() as conn:
        router.generation(conn, router.day(NOW))
    mine = Router(cluster, 0)
    outcomes = {"committed": 0, "not committed": 0}
    status = {"agreed": 0, "did not": 0}
    for turn in range(1, rounds + 1):
        batch = [message(0, turn, [uuid.uuid4()])]
        mine.conn.execute("BEGIN")
        mine.work(batch, NOW)
        transaction = one(mine.conn, "SELECT pg_current_xact_id()::text")
        how = random.random()
        if how < 0.2:
            pid = mine.conn.info.backend_pid
            killer = cluster.connect()
            race(lambda: killer.execute("SELECT pg_terminate_backend(%s)", [pid]),
                 lambda: mine.conn.pgconn.send_query(b"COMMIT"))
            killer.close()
        elif how < 0.95:
            mine.conn.pgconn.send_query(b"COMMIT")
            mine.conn.pgconn.flush()
        mine.conn.pgconn.finish()
        crashed = turn % 20 == 0
        if crashed:
            cluster.crash()
        mine.conn = cluster.connect()
        mine.ids.conn = mine.conn
        # Plain SELECT would not wait for a COMMIT that the server is still working at.
        lock = "" if "wait" in without else "FOR UPDATE"
        position, epoch = mine.conn.execute(f"SELECT position, epoch FROM position WHERE partition = 0 {lock}").fetchone()
        check(epoch == mine.epoch, "the epoch moved")
        committed = position == batch[-1]["number"]
        told = one(mine.conn, "SELECT coalesce(pg_xact_status(%s::xid8), 'unknown')", transaction)
        agrees = told in ("unknown", "committed" if committed else "aborted")
        status["agreed" if agrees else "did not"] += 1
        # A crash forgets the number of a transaction that never reached the disk, and gives it out again.
        check(agrees or crashed, f"status {told}, position says {committed}")
        outcomes["committed" if committed else "not committed"] += 1
        if committed:
            mine.position = position
        else:
            mine.route(batch, NOW)
    whole(cluster, rounds)
    say(f"  {rounds} connections cut around COMMIT, {rounds // 20} crashes: {outcomes['committed']} had committed, "
        f"{outcomes['not committed']} had not and were done again; every message once; pg_xact_status agreed {status['agreed']} times and did not {status['did not']} times")


def pending(cluster, without=(), rounds=400):
    """An edit and its message, in two partitions, at once: whoever commits second must see the other."""
    cluster.reset()
    with cluster.connect() as conn:
        router.generation(conn, router.day(NOW))
    today, lost = router.day(NOW), 0
    with cluster.connect() as first, cluster.connect() as second:
        for turn in range(rounds):
            key = uuid.uuid4()

            def files():
                with first.transaction():
                    if "gate" not in without:
                        first.execute("SELECT pg_advisory_xact_lock_shared(2, %s)", [key.int % 64])
                    waiting = first.execute("SELECT record FROM pending WHERE target = %s", [key]).fetchall()
                    first.execute("INSERT INTO seen VALUES (%s, %s, 7, %s)", [today, key, turn])
                    first.execute("DELETE FROM pending WHERE target = %s AND record = ANY(%s)", [key, [row[0] for row in waiting]])

            def edits():
                known = second.execute("SELECT 1 FROM seen WHERE key = %s", [key]).fetchone()
                with second.transaction():
                    if not known and "gate" not in without:
                        second.execute("SELECT pg_advisory_xact_lock(2, %s)", [key.int % 64])
                    if not second.execute("SELECT 1 FROM seen WHERE key = %s", [key]).fetchone():
                        second.execute("INSERT INTO pending VALUES (%s, %s, 'edited', 0)", [key, turn])

            errors = race(files, edits)
            check(not errors, f"{errors}")
        lost = one(first, "SELECT count(*) FROM pending JOIN seen ON seen.key = pending.target")
    check(lost == 0, f"{lost} of {rounds} changes wait for a message that is there")
    say(f"  {rounds} edits beside their messages: none is left waiting for a message that is there")
