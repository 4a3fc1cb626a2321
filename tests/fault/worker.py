"""The daemon of the kill campaign: the real Service with its journal and sinks, fed by the emitter.

    python -m tests.fault.worker

Importing everything takes a second or two, which 200 kills would pay 200 times: this process imports it once and
forks a daemon for each line on its standard input ({"config", "emitter", "environ", "log", "broken"}). It tells each
process id, and how each ended, on its standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import uvloop

from ingestd import clock, failpoints
from ingestd.cli import report
from ingestd.cli.run import until_stopped
from ingestd.clock import now_us
from ingestd.config import loading as configuration
from ingestd.config.models import Config, FeedConfig
from ingestd.errors import JournalError
from ingestd.feeds.base import Feed, Intake
from ingestd.journal.journal import Journal
from ingestd.ops import logs
from ingestd.records import FeedGap, Rejected, Tick, Trade
from ingestd.service import Service
from ingestd.status import FeedStatus, MarketInfo, StreamStatus
from tests.fault import breakage, events


class EmitterFeed:
    """A feed of the emitter's events, and a sink of its own: what it reads back from the journal it answers with."""

    def __init__(self, config: FeedConfig, journal: Journal | None = None) -> None:
        self.host, _, port = config.url_map["emitter"].rpartition(":")
        self.port = int(port)
        self.journal = journal
        self._streams = [StreamStatus("ticks", "every"), StreamStatus("trades", "every")]
        self._status = FeedStatus(config.exchange, streams=self._streams)
        self._closed = asyncio.Event()

    async def run(self, intake: Intake) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=2**20)
        self._status.connected = True
        reading = asyncio.create_task(self._read(reader, intake))
        witness = asyncio.create_task(self._witness(writer))
        closed = asyncio.create_task(self._closed.wait())
        try:
            await asyncio.wait({reading, witness, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, witness, closed):
                task.cancel()
            writer.close()
        for task in (reading, witness):
            if task.done() and not task.cancelled():
                task.result()

    async def close(self) -> None:
        self._closed.set()

    def status(self) -> FeedStatus:
        return self._status

    def markets(self) -> Sequence[MarketInfo]:
        return ()

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """The emitter has only its own."""

    async def _read(self, reader: asyncio.StreamReader, intake: Intake) -> None:
        base_us = int(await reader.readline())
        rest = b""
        while data := await reader.read(2**16):
            received_at = now_us()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                intake.put(events.record(line.decode(), base_us, received_at))
            for stream in self._streams:
                stream.last_received_at = received_at
            await intake.writable()
        await self._closed.wait()

    async def _witness(self, writer: asyncio.StreamWriter) -> None:
        assert self.journal is not None
        cursor = self.journal.cursor("witness")
        while True:
            with suppress(JournalError):  # a failpoint of the test, perhaps: asked again
                while batches := await cursor.read(10_000):
                    answer: dict[str, list[int]] = {"journaled": [], "refused": []}
                    for batch in batches:
                        for record in batch.records:
                            if isinstance(record, FeedGap):
                                continue
                            kind, number = _outcome(record)
                            answer[kind].append(number)
                    writer.write(json.dumps(answer).encode() + b"\n")
                    cursor.acknowledge(batches)
            await cursor.wait()


class JumpingClock:
    """In the place of the module `time`: the wall clock jumps at given moments, the monotonic one does not."""

    def __init__(self, jumps: list[list[float]]) -> None:
        """`jumps`: after how many seconds of this process, by how many seconds."""
        self._jumps = jumps
        self._started_s = time.monotonic()

    def time_ns(self) -> int:
        lived_s = time.monotonic() - self._started_s
        return time.time_ns() + sum(int(by_s * 1e9) for after_s, by_s in self._jumps if lived_s >= after_s)

    def monotonic(self) -> float:
        return time.monotonic()


def _outcome(record: object) -> tuple[str, int]:
    if isinstance(record, Trade):
        return "journaled", record.seq
    if isinstance(record, Tick):
        return "journaled", int(record.bid_volume or 0)
    assert isinstance(record, Rejected), record
    return "refused", events.number_in(record.record)


def _service(config: Config) -> Service:
    made: list[EmitterFeed] = []

    def make_feed(feed: FeedConfig) -> Feed:
        made.append(EmitterFeed(feed))
        return made[-1]

    service = Service(config, make_feed=make_feed)
    for feed in made:
        feed.journal = service.journal
    return service


def _daemon(order: dict[str, Any]) -> NoReturn:
    """In the forked process."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(descriptor, target)
        os.environ.update(order.get("environ", {}))
        random.seed()  # a fork would draw what its brothers draw
        config_file = Path(order["config"])
        failpoints.arm(os.environ)
        config = configuration.load(config_file)
        logs.configure(config.log)
        if order.get("broken"):
            breakage.break_sink(order["broken"])
        if order.get("clock"):
            clock.time = JumpingClock(order["clock"])  # type: ignore[attr-defined, assignment] # where it asks for the time
        uvloop.run(until_stopped(_service(config), config_file, None))
        code = 0
    except Exception as error:
        code = report(error)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _tell(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _reap(_signal: int, _frame: FrameType | None) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            _tell({"ended": ended[0], "code": os.waitstatus_to_exitcode(ended[1])})


def main() -> None:
    signal.signal(signal.SIGCHLD, _reap)
    # Whoever started this is told of an end only after it was told of the beginning.
    quiet = partial(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGCHLD})
    loud = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, {signal.SIGCHLD})
    _tell({"ready": True})
    for line in sys.stdin:
        quiet()
        if (pid := os.fork()) == 0:
            loud()
            _daemon(json.loads(line))
        _tell({"started": pid})
        loud()


if __name__ == "__main__":
    main()
