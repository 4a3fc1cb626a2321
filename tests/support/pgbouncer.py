"""PgBouncer in transaction mode in front of a test's server: a connection has a backend for a transaction only.

`INGESTD_TEST_PGBOUNCER=1` puts one in front of every database that a test is given (`make pgbouncer`). The pool is
small, so that backends do change hands.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from ingestd.lab.sim.child import free_port

WANTED = os.environ.get("INGESTD_TEST_PGBOUNCER") == "1"
ABSENT = "no PgBouncer on this machine: apt-get install pgbouncer"
_POOL_SIZE = 8
_START_TIMEOUT_S = 60.0


def pgbouncer_binary() -> str | None:
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pooled(server_dsn: str, *, pool_size: int = _POOL_SIZE, idle_timeout_s: int = 5) -> Iterator[str]:
    """The same DSN by way of a PgBouncer of its own; skips the test where there is none."""
    binary = pgbouncer_binary()
    if binary is None:
        pytest.skip(ABSENT)
    parts = urlsplit(server_dsn)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ingestd-pgbouncer-") as home:
        folder = Path(home)
        (folder / "users.txt").write_text(f'"{parts.username}" "{parts.password}"\n', encoding="utf-8")
        (folder / "pgbouncer.ini").write_text(
            f"""
[databases]
* = host={parts.hostname} port={parts.port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
auth_type = scram-sha-256
auth_file = {folder}/users.txt
default_pool_size = {pool_size}
max_client_conn = 500
server_idle_timeout = {idle_timeout_s}
""",
            encoding="utf-8",
        )
        with (folder / "log").open("wb") as log:
            command = [binary, "-q", *_as_nobody(folder), str(folder / "pgbouncer.ini")]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            _wait_for(port, process, folder / "log")
            netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"
            yield urlunsplit(parts._replace(netloc=netloc))
        finally:
            process.terminate()
            process.wait(10)


def _as_nobody(folder: Path) -> tuple[str, ...]:
    """PgBouncer refuses to run as root."""
    if os.geteuid() != 0:
        return ()
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return ("-u", "nobody")


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"PgBouncer did not start: {log.read_text(errors='replace')}")
