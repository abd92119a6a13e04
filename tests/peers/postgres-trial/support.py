"""What the parts share: racing, checking, telling."""

import threading

NOW = 1_790_000_000_000_000


def say(text):
    print(text, flush=True)


def check(holds, text):
    """What must hold; with a mechanism taken out, what is seen to fail."""
    if not holds:
        raise AssertionError(text)


def race(*works):
    """Runs all at once; the first error of any is raised at the end."""
    errors, ready = [], threading.Barrier(len(works))

    def run(work):
        try:
            ready.wait()
            work()
        except BaseException as error:  # noqa: BLE001, told by the main thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def one(conn, sql, *values):
    return conn.execute(sql, values).fetchone()[0]
