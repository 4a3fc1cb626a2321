"""Books that the stream brings: asked for again, and when that brings none, over another socket."""

from __future__ import annotations

import asyncio

import pytest

from ingestd.feeds.books import ladder
from ingestd.feeds.native import rebuild_queue
from ingestd.feeds.native.message_reader import MessageReader
from ingestd.feeds.native.rebuilding import Rebuilding
from ingestd.feeds.stopping import Stop
from ingestd.retry import Backoff
from ingestd.venues.messages import BookChange
from ingestd.venues.okx import Okx
from tests.unit.feeds.doubles import ListIntake, feed_config

SYMBOL = "BTC/USDT"


class Streams:
    """Brings the whole book after so many requests for it."""

    def __init__(self, reader: MessageReader, comes_after: int) -> None:
        self.done: list[str] = []
        self._reader = reader
        self._comes_after = comes_after

    def ask_for_book_again(self, symbol: str) -> None:
        self._note("asked")

    def give_up_socket_of_book(self, symbol: str) -> None:
        self._note("given up")

    def _note(self, what: str) -> None:
        self.done.append(what)
        if len(self.done) == self._comes_after:
            whole = BookChange(SYMBOL, 1, 2, [("1", "1")], [("2", "1")], is_snapshot=True)
            self._reader.take([whole], lambda _message: None)


@pytest.mark.parametrize("comes_after", [1, 2])
async def test_a_stream_without_a_whole_book_is_asked_for_then_its_socket_given_up(
    comes_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "SNAPSHOT_WITHIN_S", 0.02)
    monkeypatch.setattr(rebuild_queue, "Backoff", lambda: Backoff(base_s=0.001))
    reader, stop = MessageReader(feed_config("okx", [SYMBOL]), Okx({}), ListIntake()), Stop()
    reader.add_stream("order_book", SYMBOL)
    streams = Streams(reader, comes_after)
    reader.rebuilds.broken(SYMBOL)
    running = asyncio.create_task(Rebuilding(reader, streams, None, label="x").run(stop))
    async with asyncio.timeout(60):
        while reader.book(SYMBOL) is None or not reader.rebuilds.is_empty:  # until it has looked once more
            await asyncio.sleep(0.01)
    stop.set()
    await running

    assert streams.done == ["asked", "given up"][:comes_after]
