"""The waiting table, the outbox and the event sequence."""

import random
import statistics
import threading
import time

import psycopg

import desk
import router
from support import NOW, check, one, race, say


def fill_queue(cluster, rows):
    cluster.reset()
    with cluster.connect() as conn:
        conn.execute("""INSERT INTO conversation SELECT i << 12, 1, i, 0, 1, 1, 1, NULL, 0, 0, NULL, i, i, i, NULL, %s
            FROM generate_series(1, %s) AS i""", [router.DETAIL, rows])
        conn.execute("INSERT INTO waiting SELECT 1, 0, i, i << 12, i FROM generate_series(1, %s) AS i", [rows])
        conn.execute("VACUUM ANALYZE")


def patient(cluster, kind):
    """A claim while a router writes to the first 50 conversations: it gets the first, when the router is done."""
    fill_queue(cluster, 200)
    found = []
    with cluster.connect() as agent, cluster.connect() as watch, cluster.connect() as writer:
        claiming = threading.Thread(target=lambda: found.append(desk.CLAIMS[kind](agent, 1, "ada", NOW)))
        with writer.transaction():
            writer.execute("SELECT 1 FROM conversation WHERE id <= 50 << 12 ORDER BY id FOR UPDATE")
            claiming.start()
            while not found and not one(watch, "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted",
                                        agent.info.backend_pid):
                pass
        claiming.join()
    place = found[0] >> 12
    check(place == 1, f"a claim took place {place} while a router wrote to the first 50")


def claims(cluster, without=(), kind="chosen", rows=4000, agents=16):
    """The waiting table: agents race while a router writes to the first conversations and a supervisor moves some."""
    patient(cluster, kind)
    fill_queue(cluster, rows)
    before = cluster.deadlocks()
    taken, lock, stop, times, again = [], threading.Lock(), threading.Event(), [], [0]

    def agent(name):
        with cluster.connect() as conn:
            while True:
                started = time.monotonic()
                try:
                    found = desk.CLAIMS[kind](conn, 1, name, NOW)
                except psycopg.errors.DeadlockDetected:
                    continue
                if found is None:
                    if one(conn, "SELECT count(*) FROM waiting") == 0:
                        return
                    continue
                with lock:
                    if found:
                        taken.append(found)
                        times.append(time.monotonic() - started)
                    else:
                        again[0] += 1

    def write():
        with cluster.connect() as conn:
            while not stop.is_set():
                with conn.transaction():
                    conn.execute("""UPDATE conversation SET last_seq = last_seq + 1, version = version + 1 WHERE id IN (
                        SELECT id FROM conversation WHERE id IN (SELECT id FROM waiting ORDER BY rank LIMIT 200)
                        ORDER BY id FOR UPDATE)""")
                    time.sleep(0.01)
                time.sleep(0.02)

    def move():
        with cluster.connect() as conn:
            while not stop.is_set():
                try:
                    desk.reprioritise(conn, 1, 20)
                except psycopg.errors.DeadlockDetected:
                    pass

    def everybody():
        errors.extend(race(*[lambda name=f"agent-{i}": agent(name) for i in range(agents)]))
        stop.set()

    errors = []
    started = time.monotonic()
    errors += race(everybody, write, move)
    took = time.monotonic() - started
    check(not errors, f"{errors}")
    check(len(taken) == len(set(taken)) == rows, f"{len(taken)} claims of {len(set(taken))} conversations")
    deadlocks = cluster.deadlocks() - before
    with cluster.connect() as conn:
        check(one(conn, "SELECT count(*) FROM conversation WHERE status <> 3 OR assignee IS NULL") == 0, "not all are held")
    overtaken = max(place - index for index, place in enumerate((number >> 12) - 1 for number in taken))
    times.sort()
    say(f"  {kind}: {rows} claims by {agents} agents, 0 double, {deadlocks} deadlocks, at most {overtaken} places before its turn, "
        f"{again[0]} looked again, {rows / took:.0f}/s, p50 {times[len(times) // 2] * 1000:.1f} ms, "
        f"p99 {times[len(times) * 99 // 100] * 1000:.1f} ms")
    check(deadlocks == 0, f"{deadlocks} deadlocks")
    check(overtaken <= 2 * agents, f"a conversation was claimed {overtaken} places before its turn")


def old_snapshot(cluster, without=()):
    """The waiting table's front under a transaction that stays open: dead rows cannot be cleaned away."""
    for held in (False, True):
        cluster.reset()
        with cluster.connect() as conn, cluster.connect(autocommit=False) as old:
            conn.execute("""INSERT INTO conversation SELECT i << 12, 1, i, 0, 1, 1, 1, NULL, 0, 0, NULL, i, i, i, NULL, '{}'
                FROM generate_series(1, 20000) AS i""")
            conn.execute("INSERT INTO waiting SELECT 1, 0, i, i << 12, i FROM generate_series(1, 20000) AS i")
            conn.execute("VACUUM ANALYZE")
            if held:
                old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                old.execute("SELECT count(*) FROM waiting")
            conn.execute("DELETE FROM waiting WHERE rank <= 15000")
            times = []
            for _ in range(300):
                started = time.monotonic()
                desk.claim_chosen(conn, 1, "ada", NOW)
                times.append(time.monotonic() - started)
            say(f"  after 15,000 claims{', an old snapshot held' if held else ''}: a claim takes {statistics.median(times) * 1000:.2f} ms")


def outbox(cluster, without=(), conversations=60, replies=20):
    """Lanes lease, providers answer, receipts overtake: no reply twice, of one conversation in order, no deadlock."""
    cluster.reset()
    before = cluster.deadlocks()
    with cluster.connect() as conn:
        conn.execute("""INSERT INTO conversation SELECT i, 1, i, 0, 5, 1, 1, NULL, 0, 0, NULL, i, i, i, NULL, '{}'
            FROM generate_series(1, %s) AS i""", [conversations])
    sent, lock, total = [], threading.Lock(), conversations * replies

    def write(part):
        with cluster.connect() as conn:
            ids = router.Ids(conn)
            for _ in range(replies // 2):
                for number in range(1, conversations + 1):
                    desk.reply(conn, ids, number, NOW)

    def lane():
        with cluster.connect() as conn:
            while len(sent) < total:
                try:
                    leased = desk.lease(conn, 1, 20, NOW)
                except psycopg.errors.DeadlockDetected:
                    continue
                with lock:
                    sent.extend(leased)
                for number, conversation, _ in leased:
                    settle(conn, number, conversation, 2)

    def settle(conn, number, conversation, delivery):
        while True:
            try:
                return desk.deliver(conn, number, conversation, delivery, backwards="outbox" in without)
            except psycopg.errors.DeadlockDetected:
                continue

    def receipts():
        with cluster.connect() as conn:
            while len(sent) < total:
                with lock:
                    some = random.sample(sent, min(len(sent), 10))
                for number, conversation, _ in some:
                    settle(conn, number, conversation, 3)
                # What was never leased may be named by a receipt, too: a bounce of an attempt before a crash.
                for number, conversation in conn.execute(
                        "SELECT id, conversation FROM outbox TABLESAMPLE BERNOULLI (20)").fetchall():
                    with conn.transaction():
                        conn.execute("SELECT 1 FROM conversation WHERE id = %s FOR UPDATE", [conversation])
                        order = [("outbox", "attempts = attempts"), ("message", "reason = reason")]
                        try:
                            for table, change in reversed(order) if "outbox" in without else order:
                                conn.execute(f"UPDATE {table} SET {change} WHERE id = %s", [number])
                        except psycopg.errors.DeadlockDetected:
                            raise psycopg.Rollback from None

    errors = race(lambda: write(0), lambda: write(1), lane, lane, lane, receipts, receipts)
    check(not errors, f"{errors}")
    deadlocks = cluster.deadlocks() - before
    numbers = [row[0] for row in sent]
    check(len(numbers) == len(set(numbers)) == total, f"{len(numbers)} leases of {total} replies")
    last = {}
    for _, conversation, seq in sent:
        check(last.get(conversation, 0) < seq, f"reply {seq} left after reply {last.get(conversation)}")
        last[conversation] = seq
    with cluster.connect() as conn:
        check(one(conn, "SELECT count(*) FROM message WHERE delivery < 2") == 0, "a delivery went backwards")
        by_id = one(conn, """SELECT count(*) FROM (SELECT id > lead(id) OVER (PARTITION BY conversation ORDER BY seq) AS wrong
            FROM message) AS t WHERE wrong""")
    check(deadlocks == 0, f"{deadlocks} deadlocks")
    say(f"  {total} replies by two writers, 3 lanes, 2 receivers of receipts: each leased once, in order, 0 deadlocks; "
        f"ordered by id {by_id} would have left too early")


def sequence(cluster, without=(), writers=6, seconds=4):
    """Event seq after commit: no gap, nothing appears behind a reader, of one conversation in commit order."""
    cluster.reset()
    with cluster.connect() as conn:
        conn.execute("""INSERT INTO conversation SELECT i, 1, i, 0, 5, 1, 1, NULL, 0, 0, NULL, i, i, i, NULL, '{}'
            FROM generate_series(1, 50) AS i""")
    stop, steps = threading.Event(), []

    def write():
        with cluster.connect() as conn:
            while not stop.is_set():
                with conn.transaction():
                    number, rows = random.randrange(1, 51), []
                    seq = one(conn, "UPDATE conversation SET last_seq = last_seq + 1 WHERE id = %s RETURNING last_seq", number)
                    rows = [(0, number, seq * 10 + place, NOW) for place in range(10)]
                    router.events(conn, rows)
                    if random.random() < 0.2:
                        time.sleep(0.003)

    def run():
        mine = desk.Sequencer(cluster)
        while not stop.is_set():
            moved = mine.step()
            if moved is None:
                return
            steps.append(moved)
            time.sleep(0 if moved > 500 else 0.005)

    def read():
        last = 0
        with cluster.connect() as conn:
            while not stop.is_set():
                for row in conn.execute("SELECT seq FROM event WHERE seq > %s ORDER BY seq LIMIT 1000", [last]).fetchall():
                    check(row[0] == last + 1, f"seq {row[0]} after {last}")
                    last = row[0]

    def end():
        time.sleep(seconds / 2)
        run_again = threading.Thread(target=run)
        run_again.start()
        time.sleep(seconds / 2)
        stop.set()
        run_again.join()

    errors = race(*[write] * writers, run, read, read, end)
    check(not errors, f"{errors}")
    last = desk.Sequencer(cluster)
    while last.step():
        pass
    with cluster.connect() as conn:
        total = one(conn, "SELECT count(*) FROM event")
        check(one(conn, "SELECT max(seq) FROM event") == total, "seq has gaps")
        check(one(conn, "SELECT count(*) FROM (SELECT message < lag(message) OVER (PARTITION BY conversation ORDER BY seq) AS wrong "
                        "FROM event) AS t WHERE wrong") == 0, "events of one conversation are out of order")
    say(f"  {total} events by {writers} writers ({total / seconds:.0f}/s), a second sequencer taking over: no gap, "
        f"none behind a reader, each conversation's in commit order")
