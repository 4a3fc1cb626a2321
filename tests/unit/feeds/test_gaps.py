"""The ledger of what may have been missed."""

from __future__ import annotations

from ingestd.feeds.base import StreamStatus
from ingestd.feeds.gaps import GapTracker


def stream(symbol: str = "A/B", last: int | None = 100) -> StreamStatus:
    return StreamStatus("trades", symbol, received=1, last_received_at=last)


def test_a_gap_runs_from_the_last_thing_received_to_the_next() -> None:
    tracker = GapTracker("binance")

    (opened,) = tracker.interrupted([stream()], at=150, cause="disconnect", detail="reset")
    ended = tracker.delivered(stream(), at=200)

    assert (opened.time, opened.received_at, opened.ended_at, opened.cause) == (100, 150, None, "disconnect")
    assert ended is not None
    assert (ended.time, ended.ended_at, ended.cause, ended.detail) == (100, 200, "disconnect", "reset")
    assert tracker.open == {}


def test_a_stream_that_never_spoke_has_no_gap() -> None:
    assert GapTracker("x").interrupted([stream(last=None)], at=1, cause="stale") == []


def test_a_second_interruption_does_not_open_a_second_gap() -> None:
    tracker = GapTracker("x")
    tracker.interrupted([stream()], at=150, cause="disconnect")

    assert tracker.interrupted([stream()], at=160, cause="stale") == []
    ended = tracker.delivered(stream(), at=200)
    assert ended is not None
    assert ended.cause == "disconnect"


def test_only_the_interrupted_streams() -> None:
    tracker = GapTracker("x")
    tracker.interrupted([stream("A/B")], at=150, cause="disconnect")

    assert tracker.delivered(stream("C/D"), at=200) is None
    assert ("trades", "A/B") in tracker.open
