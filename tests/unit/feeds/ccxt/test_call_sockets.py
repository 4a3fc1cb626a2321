"""Streams that move from one socket to another. No socket."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ingestd.feeds.ccxt.call_state import LEFT_OPEN_S, CallSockets
from ingestd.feeds.streams.ledger import Stream

OLD, NEW = "wss://old", "wss://new"
NOW_S = 1000.0


@pytest.fixture
def streams() -> list[Stream]:
    return [Stream("trades", "A", url=OLD), Stream("trades", "B", url=OLD)]


def moving(streams: Sequence[Stream]) -> CallSockets:
    """Called on the old socket, then on the new one, just now."""
    made = CallSockets(None)
    for url in (OLD, NEW):
        made.begin_call(streams, NOW_S)[url] = None
    return made


def hear(stream: Stream, url: str) -> None:
    """A record of it came from there."""
    assert stream.overlap is not None
    stream.overlap.heard.add(url)


def test_a_first_call_leaves_no_socket(streams: list[Stream]) -> None:
    sockets = CallSockets(None)
    sockets.begin_call(streams, NOW_S)[OLD] = None

    assert (list(sockets.urls), sockets.left, sockets.newest) == ([OLD], set(), OLD)
    assert all(stream.overlap is None for stream in streams)
    assert sockets.have_moved(streams, NOW_S, of_books=False)


def test_nothing_has_moved_while_the_newest_call_has_dialled_nothing(streams: list[Stream]) -> None:
    sockets = moving(streams)
    sockets.begin_call(streams, NOW_S)

    assert sockets.left == {OLD, NEW}
    assert not sockets.have_moved(streams, NOW_S + 2 * LEFT_OPEN_S, of_books=False)


def test_streams_have_moved_when_each_was_heard_on_the_newer_socket(streams: list[Stream]) -> None:
    sockets = moving(streams)
    hear(streams[0], NEW)
    assert not sockets.have_moved(streams, NOW_S, of_books=False)

    hear(streams[1], NEW)
    assert sockets.have_moved(streams, NOW_S, of_books=False)


def test_a_stream_that_stays_quiet_has_moved_after_a_while(streams: list[Stream]) -> None:
    sockets = moving(streams)

    assert not sockets.have_moved(streams, NOW_S + LEFT_OPEN_S - 0.1, of_books=False)
    assert sockets.have_moved(streams, NOW_S + LEFT_OPEN_S, of_books=False)


def test_books_move_at_once(streams: list[Stream]) -> None:
    assert moving(streams).have_moved(streams, NOW_S, of_books=True)


def test_settled_streams_belong_to_the_newer_socket(streams: list[Stream]) -> None:
    sockets = moving(streams)
    hear(streams[0], NEW)
    sockets.settle(streams, of_books=False)

    assert sockets.left == set()
    assert [stream.url for stream in streams] == [NEW, NEW]
    assert streams[0].overlap is not None
    assert streams[0].overlap.is_over  # until a record has come that the old socket did not bring
    assert streams[1].overlap is None


def test_books_that_are_settled_stay_where_they_came_from(streams: list[Stream]) -> None:
    sockets = moving(streams)
    sockets.settle(streams, of_books=True)

    assert [stream.url for stream in streams] == [OLD, OLD]


def test_a_part_of_a_subscription_has_left_all_sockets_of_the_whole(streams: list[Stream]) -> None:
    assert CallSockets(moving(streams)).left == {OLD, NEW}
