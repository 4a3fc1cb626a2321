"""Books that the stream brings: asked for again, and when that brings none, over another socket."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from ingestd.feeds.books import ladder
from ingestd.feeds.native.rebuilding import Rebuilding
from ingestd.feeds.native.recorder import NativeRecorder
from ingestd.feeds.stopping import Stop


class Recorder:
    """Has the book once there is one."""

    def __init__(self) -> None:
        self.streams: dict[str, dict[str, object]] = {"order_book": {"A/B": object()}}
        self.found: object | None = None
        self.seen = asyncio.Event()  # it was looked at since it was found

    def book(self, _symbol: str) -> Any:
        if self.found is not None:
            self.seen.set()
        return self.found


@pytest.mark.parametrize("comes_after", [1, 2])
async def test_a_stream_without_a_whole_book_is_asked_for_then_its_socket_given_up(
    comes_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "SNAPSHOT_WITHIN_S", 0.02)
    recorder, stop, done = Recorder(), Stop(), []
    some = asyncio.Event()

    def note(what: str) -> None:
        done.append(what)
        if len(done) == comes_after:
            recorder.found = object()
        some.set()

    rebuilding = Rebuilding(
        cast(NativeRecorder, recorder),
        None,
        ask_again=lambda _symbol: note("asked"),
        give_up=lambda _symbol: note("given up"),
        label="x",
    )
    rebuilding.broken("A/B")
    running = asyncio.create_task(rebuilding.run(stop))
    async with asyncio.timeout(60):
        while recorder.found is None:
            await some.wait()
            some.clear()
            await asyncio.sleep(0)
        await recorder.seen.wait()
    stop.set()
    await running

    assert done == ["asked", "given up"][:comes_after]
