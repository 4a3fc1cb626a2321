"""Processes of their own that do not pay for their imports each time.

A start of `ingestd` costs two seconds of imports, which the suite would pay two hundred times. A server of the
standard library imports them once and forks; what runs in the fork is what `python -m ingestd` runs. The interpreter
is started too, as a user does it, in `tests/acceptance/test_process.py` and in
`tests/integration/cli/test_command_line.py`.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_LINE_LIMIT = 2**26
_COMMANDS = ("run", "check", "migrate", "gaps", "backfill")
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        __name__,
        "tests.fault.emitter",
        "tests.fault.worker",
        *(f"ingestd.cli.{name}" for name in ("run", "check", "migrate", "gaps", "backfill")),
    ]
)


class Forked:
    """A function in a process of its own, whose exit code is what it exits with."""

    def __init__(self, function: Callable[..., object], *arguments: Any) -> None:
        """Both must be picklable, as for any process of `multiprocessing`."""
        self._process = _FORKS.Process(target=function, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal that killed it."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """The exit code, once it has ended."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        sentinel = os.dup(self._process.sentinel)  # a loop keeps one reader a file, and several may wait
        loop.add_reader(sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(sentinel)
            os.close(sentinel)
        self._process.join()
        assert self.returncode is not None
        return self.returncode


def forked_ingestd(arguments: Sequence[str], environ: Mapping[str, str], out: Path, err: Path) -> Forked:
    """The command. `out` and `err`: the files that its output is added to."""
    return Forked(_ingestd, list(arguments), dict(environ), str(out), str(err), str(Path.cwd()))


@asynccontextmanager
async def forked_with_pipes(
    main: Callable[[], object],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.WriteTransport]]:
    """`main` in a process whose standard output is read and whose standard input is written; killed at the end."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(_LINE_LIMIT)
    child_reads, we_write = _FORKS.Pipe(duplex=False)
    we_read, child_writes = _FORKS.Pipe(duplex=False)
    process = Forked(_with_pipes, main, child_reads, child_writes)
    child_reads.close()
    child_writes.close()
    incoming, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), we_read)
    outgoing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, we_write)
    try:
        yield reader, outgoing
    finally:
        process.kill()
        await process.wait()
        incoming.close()
        outgoing.close()


def _ingestd(arguments: list[str], environ: dict[str, str], out: str, err: str, directory: str) -> None:
    gc.freeze()  # what the server imported stays; looking through it would copy it
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environ)
    for path, descriptor in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    from ingestd.cli import main

    main(arguments)


def _with_pipes(main: Callable[[], object], reads: Connection, writes: Connection) -> None:
    gc.freeze()
    for pipe, descriptor in ((reads, 0), (writes, 1)):
        os.dup2(pipe.fileno(), descriptor)
        pipe.close()
    sys.stdin = os.fdopen(0, encoding="utf-8")
    main()
