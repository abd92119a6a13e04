"""Promise 4, and how fast things are: for orientation."""

import random
import statistics
import threading
import time
import uuid

import router
from router import Router, message
from support import NOW, check, one, race, say


def dedupe(cluster, without=(), rows=2_000_000):
    """Promise 4: probe all generations, insert, drop whole while others read and write."""
    today = router.day(NOW)
    for days in (4, 10):
        cluster.reset()
        with cluster.connect() as conn:
            for number in range(today - days + 1, today + 1):
                router.generation(conn, number)
                conn.execute(f"""INSERT INTO seen_{number} SELECT {number}, gen_random_uuid(), 7, i
                    FROM generate_series(1, %s) AS i""", [rows // days])
            conn.execute("VACUUM ANALYZE")
            probe(conn, today, days, rows)
    for how in ("concurrently", "at once"):
        waits, stop, took = [], threading.Event(), []

        def use():
            with cluster.connect() as conn:
                while not stop.is_set():
                    started = time.monotonic()
                    with conn.transaction():
                        conn.execute("SELECT 1 FROM seen WHERE key = ANY(%s::uuid[])", [[uuid.uuid4() for _ in range(100)]])
                        conn.execute("INSERT INTO seen VALUES (%s, %s, 7, 1)", [today, uuid.uuid4()])
                        time.sleep(0.05)
                    waits.append(time.monotonic() - started - 0.05)

        def drop():
            time.sleep(0.5)
            with cluster.connect() as conn:
                for _ in range(3):
                    oldest = one(conn, "SELECT min(day) FROM seen")
                    started = time.monotonic()
                    if how == "concurrently":
                        conn.execute(f"ALTER TABLE seen DETACH PARTITION seen_{oldest} CONCURRENTLY")
                    conn.execute(f"DROP TABLE seen_{oldest}")
                    took.append(time.monotonic() - started)
                    time.sleep(0.2)
            stop.set()

        errors = race(use, use, use, use, drop)
        check(not errors, f"{errors}")
        say(f"  a generation detached and dropped {how} in {max(took) * 1000:.0f} ms; routers with 50 ms transactions waited "
            f"{max(waits) * 1000:.0f} ms at most")


def probe(conn, today, days, rows):
    known = [row[0] for row in conn.execute("SELECT key FROM seen WHERE message <= 5").fetchall()]
    times = {"probe": [], "insert": []}
    for _ in range(30):
        keys = [uuid.uuid4() for _ in range(980)] + random.sample(known, 20)
        started = time.monotonic()
        found = conn.execute("SELECT key, digest, message FROM seen WHERE key = ANY(%s::uuid[])", [keys]).fetchall()
        times["probe"].append(time.monotonic() - started)
        check(len(found) == 20, f"{len(found)} of 20 known keys were found")
        started = time.monotonic()
        router.unnest(conn, "INSERT INTO seen SELECT %d, key, digest, message FROM {rows} AS new (key, digest, message) "
                      "ORDER BY key" % today, ["uuid", "bigint", "bigint"], [(key, 7, 1) for key in keys[:980]])
        times["insert"].append(time.monotonic() - started)
    size = one(conn, "SELECT (sum(pg_total_relation_size(inhrelid)) / %s)::int FROM pg_inherits WHERE inhparent = 'seen'::regclass", rows)
    say(f"  1,000 keys, {rows} in {days} generations: probe {statistics.median(times['probe']) * 1000:.1f} ms, insert "
        f"{statistics.median(times['insert']) * 1000:.1f} ms; {size} bytes a row with its index")


def timeline(cluster, without=()):
    """A page of messages by its links, in one statement."""
    cluster.reset()
    with cluster.connect() as conn:
        conn.execute("""INSERT INTO message (id, conversation, seq, prev, author, channel, arrived_at, body, deleted, flags)
            SELECT i, i % 1000, i / 1000, CASE WHEN i > 1000 THEN i - 1000 END, 0, 1, 0, i, false, 0 FROM generate_series(1, 300000) AS i""")
        conn.execute("VACUUM ANALYZE")
        times = []
        for _ in range(50):
            started = time.monotonic()
            rows = conn.execute("""WITH RECURSIVE page AS (
                SELECT *, 1 AS place FROM message WHERE id = %s UNION ALL
                SELECT message.*, place + 1 FROM page JOIN message ON message.id = page.prev WHERE place < 50)
                SELECT id FROM page ORDER BY place""", [random.randrange(200_000, 300_000)]).fetchall()
            times.append(time.monotonic() - started)
            check(len(rows) == 50, "a page is short")
    say(f"  50 messages of a timeline by `prev`, one recursive statement: {statistics.median(times) * 1000:.2f} ms")


def rates(cluster, without=(), batches=20):
    """Orientation: batches of 1,000 messages, one router and four, on a store with 200,000 conversations."""
    cluster.reset()
    keys = [uuid.uuid4() for _ in range(200_000)]
    with cluster.connect() as conn:
        router.generation(conn, router.day(NOW))
        router.unnest(conn, """INSERT INTO identity (id, key, brand, scope, namespace, address, contact, method, at)
            SELECT i, key, 1, 0, 'email', key::text, i << 12 | 4095, 'dmarc', 0 FROM {rows} WITH ORDINALITY AS new (key, i)""",
                      ["uuid"], [(key,) for key in keys])
        conn.execute("INSERT INTO contact SELECT i << 12 | 4095, 1, true, NULL, 0, 0, NULL FROM generate_series(1, 200000) AS i")
        conn.execute("""INSERT INTO conversation SELECT i << 12 | 4095, 1, i << 12 | 4095, 0, 3, 1, 1, 'ada', 0, 0, NULL, i, i, i, NULL, %s
            FROM generate_series(1, 200000) AS i""", [router.DETAIL])
        conn.execute("VACUUM ANALYZE")
        conn.execute("SELECT setval('id_block', 1000000)")
        conn.execute("CHECKPOINT")
    # A customer's messages are in one partition, except where they have several identities.
    for count, span, apart in ((1, len(keys), True), (4, len(keys), True), (4, 2000, False)):
        all_routers = [Router(cluster, partition) for partition in range(count)]
        times, lock = [], threading.Lock()

        def route(mine):
            offset = mine.position >> 12
            for _ in range(batches // count):
                batch = []
                for _ in range(1000):
                    offset += 1
                    place = random.randrange(span // count) * count + (mine.partition if apart else random.randrange(count))
                    key = uuid.uuid4() if random.random() < 0.1 else keys[place]
                    batch.append(message(mine.partition, offset, [key]))
                started = time.monotonic()
                mine.route(batch, NOW)
                with lock:
                    times.append(time.monotonic() - started)

        with cluster.connect() as conn:
            conn.execute("SELECT pg_stat_reset()")
            wal = one(conn, "SELECT pg_current_wal_lsn()")
            started, cpu = time.monotonic(), time.process_time()
            errors = race(*[lambda mine=mine: route(mine) for mine in all_routers])
            took, cpu = time.monotonic() - started, time.process_time() - cpu
            check(not errors, f"{errors}")
            written = one(conn, "SELECT pg_current_wal_lsn() - %s::pg_lsn", wal)
            time.sleep(1.5)
            hot = one(conn, "SELECT n_tup_hot_upd * 100 / greatest(n_tup_upd, 1) FROM pg_stat_user_tables WHERE relname = 'conversation'")
        total = len(times) * 1000
        say(f"  {count} router{'s' * (count > 1)}, 1,000 a batch, {span} customers{'' if apart else ', each in every partition'}: {total / took:.0f} messages/s, "
            f"{statistics.median(times) * 1000:.0f} ms a batch, of which {cpu / total * 1e6:.0f} ms are this script's CPU; "
            f"{written / total:.0f} bytes of WAL a message, {hot} % of conversation updates touch no index")
