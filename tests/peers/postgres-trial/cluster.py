"""A PostgreSQL cluster of our own: a temporary directory, a socket and no network."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import psycopg

SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "120",
    "shared_buffers": "'256MB'",
    "max_wal_size": "'2GB'",
    "deadlock_timeout": "'100ms'",
    "idle_in_transaction_session_timeout": "'10s'",
    "log_min_messages": "fatal",
}


def binaries():
    """The newest installed version's programs (Debian keeps them out of the path)."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    if found:
        return found[-1]
    initdb = shutil.which("initdb")
    if not initdb:
        raise SystemExit("no PostgreSQL here: apt-get install postgresql")
    return pathlib.Path(initdb).parent


class Cluster:
    def __init__(self):
        self.bin = binaries()
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="switchboard-postgres-"))
        # initdb refuses root.
        self.user = {}
        if os.geteuid() == 0:
            self.user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.home, "nobody", "nogroup")
        self.data = self.home / "data"
        self.run("initdb", "-D", self.data, "-U", "trial", "--auth=trust", "--locale=C", "--encoding=UTF8")
        lines = [f"{key} = {value}\n" for key, value in SETTINGS.items()]
        lines.append(f"unix_socket_directories = '{self.home}'\n")
        with open(self.data / "postgresql.conf", "a", encoding="ascii") as conf:
            conf.writelines(lines)
        self.start()

    def run(self, program, *arguments):
        command = [str(self.bin / program), *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.home,
                              check=False, **self.user)
        if done.returncode:
            raise SystemExit(f"{program} failed: {done.stdout.decode(errors='replace')}")

    def start(self):
        self.run("pg_ctl", "-D", self.data, "-w", "-l", self.home / "log", "start")

    def crash(self):
        """Ends it as a power cut would end its processes; it recovers from its log at the start."""
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "stop")
        self.start()

    def connect(self, **more):
        more.setdefault("autocommit", True)
        return psycopg.connect(f"host={self.home} user=trial dbname=postgres", **more)

    def reset(self):
        """An empty store."""
        schema = pathlib.Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
        with self.connect() as conn:
            conn.execute("DROP SCHEMA public CASCADE")
            conn.execute("CREATE SCHEMA public")
            conn.execute(schema)

    def deadlocks(self):
        with self.connect() as conn:
            conn.execute("SELECT pg_stat_force_next_flush()")
            return conn.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'").fetchone()[0]

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-m", "fast", "stop")
        shutil.rmtree(self.home, ignore_errors=True)
