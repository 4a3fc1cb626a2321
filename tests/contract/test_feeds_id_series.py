"""What is said of a stream that is interrupted again and again, or whose numbers are not what the venue says: a few
rows, which cover everything. The venue is Binance USDⓈ-M, whose aggregate trades are numbered without holes."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence

import pytest
import structlog

from ingestd.ops.metrics import Metrics
from ingestd.records import FeedGap, Trade
from tests.contract.test_feeds_socket import Running, Venue, quick_delays, venue
from tests.support.exposed import exposed

__all__ = ["quick_delays", "venue"]

AGGREGATES = {
    "fetchMarkets": {"types": ["linear"]},
    "watchTrades": {"name": "aggTrade"},
    "watchTradesForSymbols": {"name": "aggTrade"},
}
ROWS_A_MINUTE = 6


async def start(venue: Venue) -> Running:
    running = Running(venue, options=AGGREGATES)
    await running.until(lambda: venue.sockets)
    return running


async def send(venue: Venue, running: Running, ids: Sequence[int]) -> None:
    """Aggregate trades with these ids, a frame each; returns when all have been taken."""
    wanted = len(running.intake.of(Trade)) + len(ids)
    for number in ids:
        at_ms = time.time_ns() // 1_000_000
        await venue.send(
            f'{{"e":"aggTrade","E":{at_ms},"s":"BTCUSDT","a":{number},"p":"7.6110","q":"2.000","f":1,"l":1,'
            f'"T":{at_ms},"m":false}}'
        )
    await running.until(lambda: len(running.intake.of(Trade)) >= wanted)


def rows(running: Running) -> list[FeedGap]:
    """As the table keeps them: one for each start, with the last thing that was said of its end."""
    kept: dict[int, FeedGap] = {}
    for gap in running.intake.of(FeedGap):
        known = kept.get(gap.time)
        if known is None or (gap.ended_at is not None and (known.ended_at or 0) <= gap.ended_at):
            kept[gap.time] = gap
    return list(kept.values())


def uncovered(running: Running) -> list[tuple[int, int]]:
    """The ids before and after each hole that no row covers."""
    trades = running.intake.of(Trade)
    holes = [(one, two) for one, two in itertools.pairwise(trades) if two.seq != one.seq + 1]
    covers = rows(running)
    return [
        (one.seq, two.seq)
        for one, two in holes
        if not any(
            row.time <= one.time and (row.ended_at is None or row.ended_at >= min(two.time, two.received_at))
            for row in covers
        )
    ]


@pytest.mark.parametrize("step", [2, 3, 17])
@pytest.mark.parametrize("consecutive_first", [0, 2, 30])
async def test_ids_that_rise_by_more_than_one_are_given_up(venue: Venue, step: int, consecutive_first: int) -> None:
    running = await start(venue)
    with structlog.testing.capture_logs() as logged:
        await send(venue, running, range(1, 1 + consecutive_first))
        await send(venue, running, range(1000, 1000 + 300 * step, step))
        await running.until(lambda: any("not consecutive" in (row.detail or "") for row in rows(running)))

    said = [row for row in rows(running) if "not consecutive" in (row.detail or "")]
    assert len(said) == 1
    assert said[0].ended_at is not None
    assert len(rows(running)) <= (4 if consecutive_first else 1)
    assert len(running.intake.of(FeedGap)) <= 6
    assert len(running.intake.of(Trade)) == 300 + consecutive_first
    assert [entry["event"] for entry in logged].count("ids_not_consecutive") == 1
    assert running.feed.status().ids_not_consecutive == 1
    metrics = Metrics()
    metrics.watch_feed(running.feed.status)
    assert 'ingestd_feed_ids_not_consecutive{feed="binanceusdm"} 1.0' in exposed(metrics)
    await running.close()


async def test_holes_in_a_third_of_the_steps_are_covered_by_a_few_rows(venue: Venue) -> None:
    running = await start(venue)
    chance = random.Random(7)
    steps = [1, 1, 1, *(chance.choice([1, 1, 1 + chance.randrange(1, 9)]) for _ in range(500))]
    await send(venue, running, list(itertools.accumulate(steps)))
    await running.until(lambda: not uncovered(running))

    assert len(rows(running)) <= ROWS_A_MINUTE
    assert len(running.intake.of(FeedGap)) <= 2 * ROWS_A_MINUTE
    assert running.feed.status().ids_not_consecutive == 0
    await running.close()


async def test_every_second_step_a_hole(venue: Venue) -> None:
    running = await start(venue)
    await send(venue, running, list(itertools.accumulate([1, 3] * 150)))
    await running.until(lambda: not uncovered(running))

    assert len(rows(running)) <= ROWS_A_MINUTE
    await running.close()


@pytest.mark.parametrize("before", [[], [9_000_000_000_000_000_000]], ids=["listed anew", "one id far too large"])
async def test_a_hole_is_noticed_after_the_numbers_have_begun_anew(venue: Venue, before: list[int]) -> None:
    running = await start(venue)
    await send(venue, running, [*range(5001, 5030), *before])
    await send(venue, running, [*range(1, 160), *range(170, 200)])
    await running.until(lambda: any("ids 160 to 169" in (row.detail or "") for row in rows(running)))

    assert len(rows(running)) == 1 + len(before)
    await running.close()


async def test_two_series_in_one_stream_are_no_gaps(venue: Venue) -> None:
    running = await start(venue)
    await send(
        venue, running, [number for pair in zip(range(5000, 5100), range(1, 101), strict=True) for number in pair]
    )
    await send(venue, running, [*range(5100, 5110), *range(5120, 5130)])
    await running.until(lambda: rows(running))

    assert [row.detail for row in rows(running)] == ["10 trades are missing: ids 5110 to 5119"]
    await running.close()


async def test_one_hole_is_one_row_with_its_ids(venue: Venue) -> None:
    running = await start(venue)
    await send(venue, running, [*range(1, 50), *range(60, 100)])
    await running.until(lambda: rows(running))

    (row,) = rows(running)
    assert (row.cause, row.detail) == ("id_jump", "10 trades are missing: ids 50 to 59")
    assert row.ended_at is not None
    await running.close()


async def test_a_connection_that_is_lost_again_and_again_leaves_a_few_rows(venue: Venue) -> None:
    running = await start(venue)
    for number in range(12):
        await send(venue, running, [3 * number + 1])
        dialled = len(venue.sockets)
        await venue.sockets[-1].close()
        await running.until(lambda dialled=dialled: len(venue.sockets) > dialled)  # type: ignore[misc]
    await send(venue, running, [100])

    assert uncovered(running) == []
    assert len(rows(running)) <= ROWS_A_MINUTE
    assert len(running.intake.of(FeedGap)) <= 3 * ROWS_A_MINUTE
    await running.close()
