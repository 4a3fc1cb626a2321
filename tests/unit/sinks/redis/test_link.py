"""The window of unanswered commands, and the breaker, over doubles of the connection and the clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingestd.errors import LiveServerError
from ingestd.sinks.redis.link import Answered, Link, Outbox
from ingestd.sinks.redis.options import RedisConfig


class Transport:
    """Takes everything; an abort ends the reader's stream."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True
        self._reader.feed_eof()


class Writer:
    def __init__(self, transport: Transport) -> None:
        self.transport = transport


class Rig:
    def __init__(self, **options: Any) -> None:
        self.reader = asyncio.StreamReader()
        self.transport = Transport(self.reader)
        self.answers: list[Answered] = []
        defaults = {"window_bytes": 1000, "window_commands": 10, "reply_timeout_s": 60.0}
        writer: Any = Writer(self.transport)
        config = RedisConfig.model_construct(**{**defaults, **options})
        self.link = Link(self.reader, writer, config, self.answers.append)

    async def reply(self, text: bytes) -> None:
        task = asyncio.create_task(self.link.run())
        self.reader.feed_data(text)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_window_is_bounded_in_commands_and_in_bytes() -> None:
    rig = Rig()
    assert rig.link.room == 10
    rig.link.send(Outbox([b"x" * 100], 4))
    assert (rig.link.room, rig.link.owed_commands) == (6, 4)
    rig.link.send(Outbox([b"x" * 900], 1))
    assert rig.link.room == 0
    await rig.reply(b"+OK\r\n" * 4)
    assert (rig.link.room, rig.link.owed_commands) == (9, 1)
    rig.link.close()


async def test_replies_settle_writes_in_order_and_name_the_refused() -> None:
    rig = Rig()
    rig.link.send(Outbox([b"a"], 3, ["ticks", "trades"]))
    rig.link.send(Outbox([b"b"], 2, ["trades"]))
    await rig.reply(b":1\r\n-NOPERM no\r\n-OOM full\r\n:1\r\n")
    assert rig.answers == [Answered({"ticks": 1, "trades": 0}, 1, ["NOPERM no", "OOM full"])]
    await rig.reply(b":1\r\n")
    assert rig.answers[1:] == [Answered({"trades": 1}, 0, [])]
    rig.link.close()


@pytest.mark.parametrize("error", ["READONLY a replica", "MOVED 1 h:1", "NOAUTH", "LOADING", "CLUSTERDOWN"])
async def test_a_server_that_changed_its_part_is_left(error: str) -> None:
    rig = Rig()
    rig.link.send(Outbox([b"a"], 1))
    rig.reader.feed_data(f"-{error}\r\n".encode())
    with pytest.raises(LiveServerError, match=error):
        await rig.link.run()
    assert rig.transport.aborted
    assert rig.link.room == 0


async def test_silence_while_something_is_owed_cuts_the_connection() -> None:
    rig = Rig(reply_timeout_s=0.03)
    rig.link.send(Outbox([b"a"], 1, ["ticks"]))
    with pytest.raises(LiveServerError, match=r"no reply for 0\.03 s"):
        await rig.link.run()
    assert [sent.published for sent in rig.link.close()] == [["ticks"]]


async def test_the_end_of_the_stream_and_nonsense_end_the_link() -> None:
    rig = Rig()
    rig.reader.feed_eof()
    with pytest.raises(LiveServerError, match="closed the connection"):
        await rig.link.run()
    rig = Rig()
    rig.reader.feed_data(b"x" * 100_000)
    with pytest.raises(LiveServerError, match="not a Redis server"):
        await rig.link.run()
