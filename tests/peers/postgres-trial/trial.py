"""Promises 3, 4 and 6, the waiting table, the outbox and the event sequence on PostgreSQL, under real concurrency.

Each part prints what it saw and ends the run with an error where a promise did not hold. Then the mechanisms are taken
out one at a time, and the same parts have to see it.
"""

import os
import signal
import sys

import promises
import queues
import rates
from cluster import Cluster
from support import one, say

PARTS = {
    "routers": promises.routers,
    "same_millisecond": promises.same_millisecond,
    "stale": promises.stale,
    "unknown_commit": promises.unknown_commit,
    "claims": queues.claims,
    "old_snapshot": queues.old_snapshot,
    "dedupe": rates.dedupe,
    "pending": promises.pending,
    "outbox": queues.outbox,
    "sequence": queues.sequence,
    "timeline": rates.timeline,
    "rates": rates.rates,
}
# What is taken out, and the part that must see it.
TAKEN_OUT = [
    ("locks in one order", "routers", {"without": ["order"]}),
    ("the lock on contacts", "routers", {"without": ["contacts"]}),
    ("identities read again under the lock", "routers", {"without": ["reread"]}),
    ("position and epoch in the condition", "stale", {"without": ["epoch"]}),
    ("the order of a claim: waiting row before conversation", "claims", {"kind": "climbing"}),
    ("waiting for a router that writes: SKIP LOCKED on the conversation", "claims", {"kind": "skipping"}),
    ("the gate between a message and its early change", "pending", {"without": ["gate"]}),
    ("outbox before message", "outbox", {"without": ["outbox"]}),
]


def main(wanted):
    cluster = Cluster()
    failed = False
    try:
        with cluster.connect() as conn:
            say(f"PostgreSQL {one(conn, 'SHOW server_version')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        for name in wanted or PARTS:
            if name == "taken-out":
                continue
            say(f"{name}: {PARTS[name].__doc__}")
            PARTS[name](cluster)
        if not wanted or "taken-out" in wanted:
            say("taken out, one at a time:")
            for what, part, how in TAKEN_OUT:
                try:
                    PARTS[part](cluster, **how)
                    say(f"  {what}: NOT seen by {part}")
                    failed = True
                except AssertionError as seen:
                    say(f"  {what}: seen by {part}: {str(seen)[:160].splitlines()[0]}")
    finally:
        cluster.stop()
    return failed


if __name__ == "__main__":
    # A run that is ended stops its cluster, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(sys.argv[1:]))
