"""A PostgreSQL server of a test's own: in a temporary folder, on a socket and a free port of this machine."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import pytest

PATIENCE_S = 60.0
USER = 65534
"""An ordinary user's number, where the test itself runs as root, for whom PostgreSQL does not run: nobody's."""
OWNER, READER, PASSWORD = "owner", "reader", "correct horse"


def find(program: str) -> Optional[str]:
    """One of PostgreSQL's programs; Debian keeps those of the server out of PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return shutil.which(program, path=":".join([os.environ["PATH"], *map(str, reversed(versions))]))


class PostgresServer:
    """One that runs from `with` on. `reader` may read only what is granted, and asks for a password over TCP."""

    def __init__(self) -> None:
        if find("initdb") is None or find("postgres") is None:
            pytest.skip("PostgreSQL's server is not installed")
        if os.geteuid() == 0 and shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no setpriv to start it as another user")
        self._psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
        self.folder = Path(tempfile.mkdtemp(prefix="edgeward-pg-", dir="/tmp"))  # a socket's path is short
        self.log = self.folder / "log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._running: Any = None

    def __enter__(self) -> "PostgresServer":
        try:
            if os.geteuid() == 0:
                os.chown(self.folder, USER, USER)
            data = str(self.folder / "data")
            words = ["-D", data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
            made = subprocess.run([*self._user(), str(find("initdb")), *words], cwd="/", capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
            rules = [f"local all {OWNER} trust", f"host all {OWNER} 127.0.0.1/32 trust", "local all all peer"]
            (self.folder / "data" / "pg_hba.conf").write_text(
                "\n".join([*rules, "host all all 127.0.0.1/32 scram-sha-256"])
            )
            self.start()
            self.run(f"CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        shutil.rmtree(self.folder)

    def _user(self) -> List[str]:
        ends = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []
        return [*ends, f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else ends

    def start(self) -> None:
        settings: Dict[str, Any] = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "log_statement": "all",
            "log_min_messages": "warning",
            "max_connections": 20,
            "shared_buffers": "16MB",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                [*self._user(), str(find("postgres")), "-D", str(self.folder / "data"), *words],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.run("SELECT 1")
                return
            except Exception as error:
                if time.monotonic() > deadline or self._running.poll() is not None:
                    raise AssertionError(self.log.read_text()) from error
                time.sleep(0.05)

    def end(self) -> None:
        """At once, whatever is connected: SIGQUIT, after which PostgreSQL leaves no process behind."""
        if self._running is not None:
            self._running.send_signal(3)
            try:
                self._running.wait(PATIENCE_S)
            finally:
                self._running.kill()
                self._running.wait()
                self._running = None

    def connect(self, database: str = "postgres") -> Any:
        return self._psycopg.connect(
            host=str(self.folder), port=self.port, user=OWNER, dbname=database, autocommit=True
        )

    def run(self, statement: str, parameters: Optional[Sequence[Any]] = None) -> List[Any]:
        """As the owner of everything: what a statement gives."""
        with self.connect() as connection:
            found = connection.execute(statement, parameters)
            return list(found.fetchall()) if found.description else []

    def source(self, **more: Any) -> Dict[str, Any]:
        """[source] of a description that reads here as the owner."""
        return {
            "kind": "postgresql",
            "host": str(self.folder),
            "port": self.port,
            "user": OWNER,
            "database": "postgres",
            **more,
        }
