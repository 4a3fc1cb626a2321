"""What a process leaves to the next one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from ingestd.config.models import FeedConfig, IntakeConfig, JournalConfig
from ingestd.feeds.streams.ledger import StreamLedger
from ingestd.intake import stream_state
from ingestd.intake.intake import Intake
from ingestd.intake.stream_state import (
    Document,
    StreamState,
    document,
    earlier_streams,
    end_unfollowed,
    have_chosen,
    lost_before_gaps,
)
from ingestd.journal.journal import Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import FeedGap, StreamId
from ingestd.status import Earlier, FeedStatus, StreamStatus
from ingestd.validation import TimeWindow
from tests.support.records import NOW_US, tick, trade
from tests.unit.feeds.doubles import ListIntake

TRADES: StreamId = ("binance", "trades", "BTC/USDT")
TICKS: StreamId = ("binance", "ticks", "BTC/USDT")


def make_intake(tmp_path: Path) -> Intake:
    """One whose journal takes nothing until it is opened."""
    metrics = Metrics()
    return Intake(
        Journal(tmp_path, JournalConfig(), metrics), IntakeConfig(), lambda _now: TimeWindow({}, NOW_US * 2), metrics
    )


def status(*streams: StreamStatus) -> FeedStatus:
    return FeedStatus("binance", streams=list(streams))


def delivered(channel: str, at: int) -> StreamStatus:
    return StreamStatus(channel, "BTC/USDT", received=1, last_received_at=at, followed_at=1)


def gap(ended_at: int | None = None, started: int = NOW_US) -> FeedGap:
    return FeedGap("binance", "BTC/USDT", started, started, "trades", ended_at, "disconnect", "reset")


def until(stored: Document) -> dict[StreamId, int]:
    return {(stream.exchange, stream.channel, stream.symbol): stream.complete_until for stream in stored.streams}


def composed(intake: Intake, *streams: StreamStatus, stopped: bool = False) -> Document:
    return document([("binance", status(*streams))], intake, {}, written_at=NOW_US, stopped=stopped)


async def test_a_stream_is_complete_until_the_last_thing_received_of_it(tmp_path: Path) -> None:
    stored = composed(make_intake(tmp_path), delivered("trades", NOW_US + 7), delivered("ticks", NOW_US + 3))
    assert until(stored) == {TRADES: NOW_US + 7, TICKS: NOW_US + 3}


async def test_and_no_further_than_what_is_in_the_journal(tmp_path: Path) -> None:
    """The journal refuses for a while and then the process is killed: what waited in memory is gone."""
    intake = make_intake(tmp_path)
    for number in (10, 11, 12):
        intake.put(trade(number))
    stored = composed(intake, delivered("trades", trade(12).received_at), delivered("ticks", NOW_US + 20))
    assert until(stored) == {TRADES: trade(10).time - 1, TICKS: NOW_US + 20}


async def test_a_stream_that_never_delivered_is_complete_until_it_was_followed(tmp_path: Path) -> None:
    waiting = StreamStatus("trades", "BTC/USDT", followed_at=NOW_US)
    unknown = StreamStatus("trades", "NO/SUCH", quarantined="unknown")
    assert until(composed(make_intake(tmp_path), waiting, unknown)) == {TRADES: NOW_US}


async def test_what_no_feed_has_taken_over_yet_is_handed_on_as_it_was(tmp_path: Path) -> None:
    earlier = {TICKS: Earlier(5, "restart")}
    stored = document([("binance", status())], make_intake(tmp_path), earlier, written_at=NOW_US, stopped=False)
    assert until(stored) == {TICKS: 5}


async def test_what_could_not_be_journaled_at_the_stop_is_the_cause(tmp_path: Path) -> None:
    intake = make_intake(tmp_path)
    intake.put(trade(10))
    intake.put(trade(11))
    intake.close()
    intake.abandon()
    stored = composed(intake, delivered("trades", NOW_US + 99), delivered("ticks", NOW_US + 99), stopped=True)

    streams = earlier_streams(stored)
    assert streams[TRADES].complete_until == trade(10).time - 1
    assert streams[TRADES].cause == "shutdown"
    assert "2 records could not be journaled" in str(streams[TRADES].detail)
    assert (streams[TICKS].complete_until, streams[TICKS].cause) == (NOW_US + 99, "restart")


async def test_open_gaps_and_those_on_their_way_are_left(tmp_path: Path) -> None:
    intake = make_intake(tmp_path)
    intake.put(gap())
    stored = composed(intake, delivered("trades", NOW_US))
    assert (stored.open_gaps, stored.pending_gaps) == ([gap()], [gap()])
    assert earlier_streams(stored)[TRADES] == Earlier(NOW_US, "disconnect", "reset", gap())

    intake.put(gap(NOW_US + 9))
    stored = composed(intake, delivered("trades", NOW_US))
    assert (stored.open_gaps, stored.pending_gaps) == ([], [gap(), gap(NOW_US + 9)])


def released(
    earlier: dict[StreamId, Earlier],
    have_chosen: dict[str, bool],
    until: int,
    is_wanted: Callable[[StreamId], bool] = lambda _: False,
    over_before: int = 0,
) -> list[FeedGap]:
    return end_unfollowed(earlier, have_chosen, is_wanted, until=until, over_before=over_before)


def test_a_gap_of_a_stream_nobody_follows_ends_when_it_was_last_followed() -> None:
    earlier = {
        TRADES: Earlier(NOW_US, "disconnect", "reset", gap()),
        TICKS: Earlier(NOW_US, "restart"),
        ("kraken", "trades", "A/B"): Earlier(NOW_US, "restart"),
    }
    (ended,) = released(earlier, {"binance": True, "kraken": False}, NOW_US + 50)
    assert (ended.time, ended.ended_at, ended.detail) == (NOW_US, NOW_US + 50, "reset; no longer followed")
    assert set(earlier) == {("kraken", "trades", "A/B")}


def test_what_is_configured_and_not_listed_misses_something_from_then_on() -> None:
    earlier = {TRADES: Earlier(NOW_US, "restart", "the process before had stopped"), TICKS: Earlier(NOW_US, "restart")}
    (opened,) = released(earlier, {"binance": True}, NOW_US + 50, lambda stream: stream == TRADES)

    assert (opened.symbol, opened.channel, opened.time, opened.ended_at) == ("BTC/USDT", "trades", NOW_US, None)
    assert opened.cause == "unlisted"
    assert earlier[TRADES].gap == opened
    assert TICKS not in earlier
    assert released(earlier, {"binance": True}, NOW_US + 60, lambda _: True) == []
    over = released(dict(earlier), {"binance": True}, NOW_US + 60, lambda _: True, over_before=NOW_US + 1)
    assert [(gap.time, gap.cause) for gap in over] == [(NOW_US, "unlisted")]
    assert "counts as closed" in (over[0].detail or "")
    (ended,) = released(earlier, {"binance": True}, NOW_US + 70)  # taken out of the configuration
    assert (ended.time, ended.ended_at) == (NOW_US, NOW_US + 70)
    assert earlier == {}


def test_an_exchange_has_chosen_when_each_of_its_feeds_has() -> None:
    follows, not_yet = status(delivered("trades", 1)), status(StreamStatus("trades", "A/B", quarantined="unknown"))
    assert have_chosen([("a", follows), ("a", not_yet), ("b", follows), ("c", not_yet)]) == {
        "a": False,
        "b": True,
        "c": False,
    }


@asynccontextmanager
async def running(tmp_path: Path, intake: Intake, *streams: StreamStatus) -> AsyncIterator[StreamState]:
    state = StreamState(tmp_path)
    task = asyncio.create_task(
        state.run(lambda stopped: composed(intake, *streams, stopped=stopped), lambda: intake.gaps.version)
    )
    await asyncio.sleep(0)
    try:
        yield state
    finally:
        task.cancel()
        await asyncio.wait({task})


def loaded(tmp_path: Path) -> StreamState:
    state = StreamState(tmp_path)
    state.load()
    return state


async def test_the_next_process_finds_what_was_left(tmp_path: Path) -> None:
    intake = make_intake(tmp_path)
    async with running(tmp_path, intake, delivered("ticks", NOW_US + 3)) as state:
        intake.put(gap())
        await state.save_gaps()
        killed = loaded(tmp_path)
        await state.finish()
    stopped = loaded(tmp_path)
    for found, text in ((killed, "ended without a stop"), (stopped, "had stopped")):
        assert found.earlier[TICKS].complete_until == NOW_US + 3
        assert text in str(found.earlier[TICKS].detail)
        assert found.earlier[TRADES].gap == gap()
        assert (found.open_gaps, found.pending_gaps) == ([gap()], [gap()])


def test_the_first_start_finds_nothing(tmp_path: Path) -> None:
    assert loaded(tmp_path).earlier == {}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b'{"version": 1}', b"[]"])
def test_a_damaged_file_is_put_aside_and_nothing_fails(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "streams.json").write_bytes(content)
    assert loaded(tmp_path).earlier == {}
    assert (tmp_path / "streams.damaged").read_bytes() == content
    assert not (tmp_path / "streams.json").exists()


async def test_a_file_of_another_version_is_not_misread(tmp_path: Path) -> None:
    async with running(tmp_path, make_intake(tmp_path), delivered("trades", NOW_US)) as state:
        await state.finish()
    path = tmp_path / "streams.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    assert loaded(tmp_path).earlier == {}


async def test_a_disk_that_refuses_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    intake = make_intake(tmp_path)
    stream = delivered("ticks", NOW_US)
    async with running(tmp_path, intake, stream) as state:
        intake.put(gap())
        await state.save_gaps()

        def full(_path: Path, _payload: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("ingestd.files.replace", full)
        stream.last_received_at = NOW_US + 100
        intake.put(gap(NOW_US + 50))
        await asyncio.wait_for(state.save_gaps(), 0.5)  # it is not waited for what cannot be
        await state.finish()
    assert loaded(tmp_path).earlier[TICKS].complete_until == NOW_US


async def test_a_disk_that_hangs_holds_nothing_up_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, calls = threading.Event(), []

    def hanging(_path: Path, _payload: bytes) -> None:
        calls.append(1)
        go_on.wait(20)

    monkeypatch.setattr("ingestd.files.replace", hanging)
    intake = make_intake(tmp_path)
    try:
        async with running(tmp_path, intake) as state, asyncio.timeout(60):
            intake.put(gap())
            await state.save_gaps()
            await state.save_gaps()
            await state.finish()
        assert len(calls) == 1  # nothing piles up behind it
    finally:
        go_on.set()


async def test_ticks_and_trades_are_streams_of_their_own(tmp_path: Path) -> None:
    intake = make_intake(tmp_path)
    intake.put(tick(5))
    stored = composed(intake, delivered("trades", NOW_US + 9), delivered("ticks", NOW_US + 9))
    assert until(stored) == {TRADES: NOW_US + 9, TICKS: tick(5).time - 1}


async def test_what_was_not_journaled_before_a_gap_opened_is_covered_too(tmp_path: Path) -> None:
    """The connection is lost, and 10 ms later the process is killed: its last records were still in memory."""
    intake = make_intake(tmp_path)
    intake.put(trade(10))
    opened = gap(started=trade(11).time)
    intake.put(opened)
    stored = composed(intake, delivered("trades", trade(11).received_at))
    (before,) = lost_before_gaps(stored)
    assert (before.time, before.ended_at, before.cause) == (trade(10).time - 1, opened.time, "restart")

    assert lost_before_gaps(composed(make_intake(tmp_path), delivered("trades", NOW_US))) == []


CANDLES: StreamId = ("binance", "candles", "BTC/USDT")


def candle_gap(started: int) -> FeedGap:
    return FeedGap("binance", "BTC/USDT", started, started, "candles", None, "disconnect", "reset")


async def test_two_timeframes_of_one_market_are_complete_until_the_earlier_of_both(tmp_path: Path) -> None:
    minutes, hours = delivered("candles", NOW_US + 90), delivered("candles", NOW_US + 10)
    for order in ([minutes, hours], [hours, minutes]):
        feeds = [("binance", status(one)) for one in order]
        stored = document(feeds, make_intake(tmp_path), {}, written_at=NOW_US, stopped=False)
        assert until(stored) == {CANDLES: NOW_US + 10}


async def test_both_timeframes_go_on_with_what_was_left(tmp_path: Path) -> None:
    """Each of the two feeds opens the row, and it lasts until the later of them delivers."""
    earlier = {CANDLES: Earlier(NOW_US, "restart", "the process before had stopped")}
    state = StreamState(tmp_path)
    state.earlier.update(earlier)
    state.count_followers(lambda _: 2)
    intake = ListIntake()
    for timeframe in ("1m", "1h"):
        config = FeedConfig(exchange="binance", symbols=["BTC/USDT"], channels=["candles"], candle_timeframe=timeframe)
        StreamLedger(config, intake, state.earlier).add_stream("candles", "BTC/USDT")
    assert [(gap.time, gap.cause, gap.ended_at) for gap in intake.of(FeedGap)] == [(NOW_US, "restart", None)] * 2
    assert state.earlier == {}


async def test_two_open_gaps_of_one_market_both_end(tmp_path: Path) -> None:
    """The socket of each timeframe was lost at another time, and then the process was killed."""
    intake = make_intake(tmp_path)
    for started in (NOW_US + 5, NOW_US):
        intake.put(candle_gap(started))
    stored = composed(intake)
    assert sorted(gap.time for gap in stored.open_gaps) == [NOW_US, NOW_US + 5]
    (tmp_path / stream_state.NAME).write_bytes(msgspec.json.encode(stored))
    found = loaded(tmp_path)
    assert found.earlier[CANDLES].gap == candle_gap(NOW_US)
    ended = [gap for gap in found.pending_gaps if gap.ended_at is not None]
    assert [gap.time for gap in ended] == [NOW_US + 5]
