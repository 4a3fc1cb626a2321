"""The journal on a disk that is really full, and in a process that dies while it repairs a file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestd.config.models import JournalConfig
from ingestd.errors import JournalFull
from ingestd.journal.journal import Journal
from ingestd.ops.metrics import Metrics
from tests.unit.journal.test_faults import change
from tests.unit.journal.test_journal import append, filled, numbers, opened, read_all

DIED = 9


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


FILL_AND_DIE = """
import asyncio, os, sys
from pathlib import Path
from ingestd.config.models import JournalConfig
from ingestd.errors import JournalError
from ingestd.journal.journal import Journal
from ingestd.ops.metrics import Metrics
from tests.support.records import book

async def main():
    config = JournalConfig.model_validate({"file_bytes": 300_000, "memory_bytes": 100_000})
    journal = Journal(Path(sys.argv[1]), config, Metrics())
    journal.open()
    journal.cursor("one")
    appended = refused = 0
    while refused < 3:
        try:
            await journal.append([book(n) for n in range(50)])
            appended += 1
        except JournalError:
            refused += 1
    with open(Path(sys.argv[1]) / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"x" * 4096)
        except OSError:
            pass
    print(appended, flush=True)
    os._exit(9)

asyncio.run(main())
"""


async def test_a_disk_without_a_byte_left_is_opened_and_drained(small_disk: Path) -> None:
    """Old files have no index of their log any more, and there is no room to make one."""
    command = [sys.executable, "-c", FILL_AND_DIE, str(small_disk)]
    died = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False, cwd=Path.cwd())
    assert died.returncode == DIED, died.stderr.decode()
    appended = int(died.stdout)
    with opened(small_disk) as journal:
        cursor = journal.cursor("one")
        read = 0
        while batches := await cursor.read(500):
            read += len(batches)
            cursor.acknowledge(batches)
        assert read == appended
        await append(journal, 1)
    assert appended > 10


async def test_the_backlog_is_read_while_the_disk_is_full(small_disk: Path) -> None:
    with opened(small_disk, file_bytes=300_000, memory_bytes=1) as journal:
        cursor = journal.cursor("one")
        appended = 0
        with contextlib.suppress(JournalFull):
            while True:
                await append(journal, 1, 200)
                appended += 1
        with pytest.raises(JournalFull, match="disk"):
            await append(journal, 1, 200)
        read = 0
        while batches := await cursor.read(1000):
            read += len(batches)
            cursor.acknowledge(batches)
        assert read == appended > 10
        await append(journal, 1, 200)
        assert [batch.position for batch in await cursor.read(1000)] == [appended + 1]


def salvaging_dies_at(directory: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> int:
    """Open it in a child that is killed at the `number`th call of an `os` or `Path` function. Its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    owner, _, name = call.partition(".")
    target = Path if owner == "Path" else os
    real, calls = getattr(target, name), [0]

    def dying(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == number:
            os._exit(DIED)
        return real(*args, **kwargs)

    setattr(target, name, dying)
    try:
        Journal(directory, JournalConfig(), Metrics()).open()
    finally:
        os._exit(0)


@pytest.mark.parametrize(
    ("call", "number"),
    [*(("os.replace", n) for n in (1, 2)), ("os.link", 1), *(("os.fsync", n) for n in range(1, 9))]
    + [("Path.unlink", n) for n in range(1, 9)],
)
def test_a_crash_at_any_moment_of_salvaging_loses_no_sound_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    path = asyncio.run(filled(tmp_path))
    change(path, "UPDATE batches SET counts = CAST('x' AS BLOB) WHERE position = 20")
    assert salvaging_dies_at(tmp_path, monkeypatch, call, number) in (0, DIED)

    async def after() -> None:
        with opened(tmp_path) as journal:
            assert numbers(await read_all(journal.cursor("one"))) == [n for n in range(1, 121) if n not in (58, 59, 60)]

    asyncio.run(after())
    assert any((tmp_path / "journal" / "bad").iterdir())
    assert not [kept for kept in (tmp_path / "journal").iterdir() if ".part" in kept.name or ".new" in kept.name]
