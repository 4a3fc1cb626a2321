"""The intake over a real journal: batches by size and time, back-pressure, rejections, the last record at the stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingestd.config.models import IntakeConfig, JournalConfig
from ingestd.errors import JournalError
from ingestd.intake.intake import Intake
from ingestd.journal.journal import Batch, Cursor, Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import (
    BookSnapshot,
    Candle,
    FeedGap,
    Funding,
    MarketRecord,
    OpenInterest,
    Record,
    Rejected,
    Tick,
    Trade,
)
from ingestd.validation import TimeWindow
from tests.support.exposed import exposed
from tests.support.records import NOW_US, book, tick, trade

ALWAYS = TimeWindow({}, NOW_US * 2)


class Rig:
    """An intake, its journal, and one cursor to see what arrived."""

    def __init__(self, tmp_path: Path, **options: object) -> None:
        self.metrics = Metrics()
        self.journal = Journal(tmp_path, JournalConfig(), self.metrics)
        self.journal.open()
        self.cursor: Cursor = self.journal.cursor("test")
        self.intake = Intake(self.journal, IntakeConfig.model_validate(options), lambda _now: ALWAYS, self.metrics)

    async def batches(self) -> list[Batch]:
        batches: list[Batch] = []
        while more := await self.cursor.read(1):
            batches += more
        return batches


@asynccontextmanager
async def running(tmp_path: Path, **options: int) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, **options)
    task = asyncio.create_task(rig.intake.run())
    try:
        yield rig
        rig.intake.close()
        await asyncio.wait_for(task, 60)
    finally:
        task.cancel()
        rig.journal.close()


def records_of(batches: list[Batch]) -> list[Record]:
    return [record for batch in batches for record in batch.records]


async def test_everything_is_journaled_in_order(tmp_path: Path) -> None:
    sent = [trade(number) for number in range(1, 12_001)]
    async with running(tmp_path, max_batch_records=5000, linger_ms=1) as rig:
        for record in sent:
            rig.intake.put(record)
    assert records_of(await _read_again(tmp_path)) == sent
    assert rig.metrics.totals(rig.metrics.received) == {"trades": 12_000}
    assert rig.metrics.totals(rig.metrics.journaled) == {"trades": 12_000}


async def _read_again(tmp_path: Path) -> list[Batch]:
    journal = Journal(tmp_path, JournalConfig(), Metrics())
    journal.open()
    cursor = journal.cursor("again")
    batches: list[Batch] = []
    while more := await cursor.read(1000):
        batches += more
    journal.close()
    return batches


async def test_a_batch_is_sealed_when_it_is_large_enough(tmp_path: Path) -> None:
    async with running(tmp_path, max_batch_records=10, linger_ms=1000) as rig:
        for number in range(25):
            rig.intake.put(trade(number))
        await asyncio.wait_for(rig.cursor.wait(), 0.9)  # before the linger of a second is over
        assert {len(batch.records) for batch in await rig.batches()} == {10}
    assert len(records_of(await _read_again(tmp_path))) == 25


async def test_a_lone_record_does_not_wait_for_company(tmp_path: Path) -> None:
    async with running(tmp_path, linger_ms=5) as rig:
        rig.intake.put(trade(1))
        await asyncio.wait_for(rig.cursor.wait(), 60)
        assert records_of(await rig.batches()) == [trade(1)]


async def test_a_flawed_record_becomes_a_rejection_and_touches_no_other(tmp_path: Path) -> None:
    async with running(tmp_path, linger_ms=1) as rig:
        rig.intake.put(trade(1))
        rig.intake.put(trade(2, price="NaN"))
        rig.intake.put(tick(3))
    first, refused, last = records_of(await _read_again(tmp_path))
    assert (first, last) == (trade(1), tick(3))
    assert isinstance(refused, Rejected)
    assert (refused.table, refused.reason) == ("trades", "price")
    assert rig.metrics.totals(rig.metrics.rejected) == {"trades": 1}
    assert rig.metrics.totals(rig.metrics.received) == {"trades": 2, "ticks": 1}


class RefusingJournal(Journal):
    """Takes nothing until told to."""

    def __init__(self, tmp_path: Path, metrics: Metrics) -> None:
        super().__init__(tmp_path, JournalConfig(), metrics)
        self.refusing = True

    async def append(self, records: list[Record]) -> Batch:
        if self.refusing:
            raise JournalError("no")
        return await super().append(records)


async def test_feeds_are_held_back_while_the_journal_refuses_and_nothing_is_lost(tmp_path: Path) -> None:
    metrics = Metrics()
    journal = RefusingJournal(tmp_path, metrics)
    journal.open()
    cursor = journal.cursor("test")
    config = IntakeConfig(linger_ms=1, max_batch_records=50, max_open_records=100)
    intake = Intake(journal, config, lambda _now: ALWAYS, metrics)
    task = asyncio.create_task(intake.run())
    for number in range(100):
        intake.put(trade(number))
    waiting = asyncio.create_task(intake.writable())
    await asyncio.sleep(0)
    assert intake.is_blocked
    assert not waiting.done()
    journal.refusing = False
    await asyncio.wait_for(waiting, 60)
    intake.close()
    await asyncio.wait_for(task, 60)
    stored = records_of(await cursor.read(1000))
    journal.close()
    assert stored == [trade(number) for number in range(100)]


async def test_a_feed_that_ignores_the_gate_loses_counted(tmp_path: Path) -> None:
    async with running(tmp_path, max_open_records=100, linger_ms=1) as rig:
        for number in range(50_150):
            rig.intake.put(trade(number))
    *kept, gap = records_of(await _read_again(tmp_path))
    assert kept == [trade(number) for number in range(50_100)]
    assert isinstance(gap, FeedGap)
    assert (gap.exchange, gap.symbol, gap.channel, gap.cause) == ("binance", "BTC/USDT", "trades", "dropped")
    assert gap.detail == "50 records: the intake was full"
    lost = [trade(number) for number in range(50_100, 50_150)]
    assert gap.ended_at is not None
    assert gap.time < min(record.time for record in lost)
    assert gap.ended_at > max(record.received_at for record in lost)
    assert rig.metrics.totals(rig.metrics.dropped) == {"trades": 50}
    assert rig.metrics.totals(rig.metrics.received) == {"trades": 50_150}


async def test_what_cannot_be_journaled_at_the_stop_is_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    journal = RefusingJournal(tmp_path, metrics)
    journal.open()
    intake = Intake(journal, IntakeConfig(linger_ms=1), lambda _now: ALWAYS, metrics)
    task = asyncio.create_task(intake.run())
    intake.put(trade(1))
    intake.put(tick(2))
    intake.close()
    _, late = await asyncio.wait({task}, timeout=0.05)
    assert late
    task.cancel()
    await asyncio.wait({task})
    gap = FeedGap("binance", "BTC/USDT", NOW_US, NOW_US, "trades", None, "disconnect")
    intake.put(gap)
    intake.put(trade(3))  # after the close
    assert intake.abandon() == 2
    journal.close()
    assert intake.pending_gaps() == [gap]  # for the next process
    assert {stream: span.count for stream, span in intake.lost.items()} == {
        ("binance", "trades", "BTC/USDT"): 2,
        ("binance", "ticks", "BTC/USDT"): 1,
    }
    assert intake.unjournaled()["binance", "trades", "BTC/USDT"] == trade(1).time
    assert metrics.totals(metrics.dropped) == {"trades": 2, "ticks": 1}


@pytest.mark.parametrize(
    "bad",
    [
        trade(2, time=NOW_US * 1_000_000),  # a venue that turned to other units
        Funding("x", "BTC/USDT:USDT", NOW_US, NOW_US, "0.1", next_funding_time=10**30),
        Candle("x", "BTC/USDT", NOW_US, NOW_US, "1m", "1", "1", "1", "1", "1", trades_count=10**30),
        OpenInterest("x", "BTC/USDT:USDT", NOW_US, 10**30, "1"),
        trade(2, symbol="\ud800"),
    ],
)
async def test_no_value_of_a_venue_ends_the_capture_of_the_others(tmp_path: Path, bad: MarketRecord) -> None:
    async with running(tmp_path, linger_ms=1) as rig:
        for record in (trade(1), bad, trade(3)):
            rig.intake.put(record)
    first, refused, last = records_of(await _read_again(tmp_path))
    assert (first, last) == (trade(1), trade(3))
    assert isinstance(refused, Rejected)
    assert sum(rig.metrics.totals(rig.metrics.rejected).values()) == 1


async def test_a_venues_last_words_are_journaled_whatever_they_are(tmp_path: Path) -> None:
    async with running(tmp_path, linger_ms=1) as rig:
        rig.intake.put(FeedGap("x", "BTC/USDT", NOW_US, NOW_US, "trades", None, "disconnect", "half \ud800 a pair\x00"))
    (gap,) = records_of(await _read_again(tmp_path))
    assert isinstance(gap, FeedGap)
    assert gap.detail == "half \\ud800 a pair\\x00"


async def test_the_gate_closes_where_a_batch_is_as_large_as_the_limit(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_batch_records=100, max_open_records=100)
    for number in range(100):
        rig.intake.put(trade(number))
    assert rig.intake.is_blocked
    rig.journal.close()


async def test_large_books_are_sealed_a_few_at_a_time(tmp_path: Path) -> None:
    levels = tuple((f"{price}.5", "1.25") for price in range(1, 2001))
    async with running(tmp_path, linger_ms=1) as rig:
        for number in range(100):
            rig.intake.put(book(number, bids=levels, asks=levels))
    batches = await _read_again(tmp_path)
    assert sum(len(batch.records) for batch in batches) == 100
    assert max(len(batch.records) for batch in batches) < 40


class SlowJournal(Journal):
    """Takes a moment for each append, as a busy disk does."""

    async def append(self, records: list[Record]) -> Batch:
        batch = await super().append(records)
        await asyncio.sleep(0.2)
        return batch


async def test_what_the_disk_has_taken_at_the_stop_is_not_counted_as_lost(tmp_path: Path) -> None:
    metrics = Metrics()
    journal = SlowJournal(tmp_path, JournalConfig(), metrics)
    journal.open()
    intake = Intake(journal, IntakeConfig(linger_ms=1), lambda _now: ALWAYS, metrics)
    task = asyncio.create_task(intake.run())
    intake.put(trade(1))
    await asyncio.sleep(0.05)
    intake.close()
    intake.put(trade(2))  # too late
    task.cancel()
    await asyncio.wait({task})
    intake.abandon()
    journal.close()
    assert metrics.totals(metrics.received) == {"trades": 2}
    assert metrics.totals(metrics.dropped) == {"trades": 1}
    assert metrics.totals(metrics.journaled) == {"trades": 1}


class Live:
    """A live sink that keeps what it is handed."""

    def __init__(self) -> None:
        self.taken: list[MarketRecord] = []

    def put_all(self, records: Sequence[MarketRecord]) -> None:
        self.taken += records


FLAWED: list[MarketRecord] = [
    trade(2, price="0", quantity="0"),
    trade(2, price="-1"),
    trade(2, quantity="NaN"),
    trade(2, side="hold"),
    trade(2, kind="RPI"),
    trade(2, symbol="BTC\x00"),
    trade(2, time=NOW_US * 2 + 1, received_at=NOW_US),  # too far ahead
    trade(2, time=0),
    tick(2, bid_price="-0.5"),
    tick(2, bid_price=None, ask_price=None),
    tick(2, ask_volume="-1"),
    OpenInterest("bybit", "BTC/USD:BTC", NOW_US, NOW_US, None),
    OpenInterest("bybit", "BTC/USD:BTC", NOW_US, NOW_US, None, "-1", None, "quote"),
    OpenInterest("bybit", "BTC/USD:BTC", NOW_US, NOW_US, "1", None, None, "lots"),
    book(2, bids=(("1", "0"),)),
    book(2, asks=(("1", "Infinity"),)),
    Candle("binance", "BTC/USDT", NOW_US, NOW_US, "1m", "1", "1", "0", "1", "1"),
    Candle("binance", "BTC/USDT", NOW_US, NOW_US, "1m", "1", "1", "1", "1", "-1"),
]


@pytest.mark.parametrize("flawed", FLAWED)
async def test_what_is_not_journaled_as_valid_is_not_shown_live(tmp_path: Path, flawed: MarketRecord) -> None:
    """All that is sound is shown, in order, one loop turn after it came and before it is journaled."""
    metrics, journal = Metrics(), Journal(tmp_path, JournalConfig(), Metrics())
    journal.open()
    live = [Live(), Live()]
    intake = Intake(journal, IntakeConfig(), lambda _now: ALWAYS, metrics, [sink.put_all for sink in live])
    sound: list[MarketRecord] = [trade(1), tick(2), trade(3)]
    gap = gap_record(1, None)
    for record in (*sound[:2], flawed, gap, sound[2]):
        intake.put(record)
    await asyncio.sleep(0)
    assert [sink.taken for sink in live] == [sound] * 2
    running_intake = asyncio.create_task(intake.run())
    intake.close()
    intake.put(trade(4))
    await asyncio.wait_for(running_intake, 60)
    journal.close()
    *journaled, last = records_of(await _read_again(tmp_path))
    assert isinstance(journaled[2], Rejected)
    assert [*journaled[:2], journaled[3], last] == [*sound[:2], gap, sound[2]]
    assert [sink.taken for sink in live] == [sound] * 2
    assert sum(metrics.totals(metrics.rejected).values()) == 1


async def test_a_record_after_a_flawed_one_is_judged_as_ever(tmp_path: Path) -> None:
    """Batch after batch, with and without a flaw, by the live sinks and by the journal alike."""
    metrics, journal = Metrics(), Journal(tmp_path, JournalConfig(), Metrics())
    journal.open()
    cursor = journal.cursor("test")
    live = Live()
    config = IntakeConfig(linger_ms=1, max_batch_records=7)
    intake = Intake(journal, config, lambda _now: ALWAYS, metrics, [live.put_all])
    task = asyncio.create_task(intake.run())
    sent = [trade(number, price="0" if number % 50 == 13 else "1.5") for number in range(1, 401)]
    for number, record in enumerate(sent):
        intake.put(record)
        if number % 11 == 0:
            await asyncio.sleep(0)
        if number % 100 == 99:
            await asyncio.wait_for(cursor.wait(), 60)
    intake.close()
    await asyncio.wait_for(task, 60)
    stored: list[Record] = []
    while more := await cursor.read(1000):
        stored += records_of(more)
    journal.close()
    sound = [record for record in sent if record.price != "0"]
    assert live.taken == sound
    assert [record for record in stored if not isinstance(record, Rejected)] == sound
    assert metrics.totals(metrics.rejected) == {"trades": 8}


def gap_record(started: int, ended: int | None, symbol: str = "BTC/USDT") -> FeedGap:
    return FeedGap("binance", symbol, NOW_US + started, NOW_US + started, "trades", ended, "disconnect")


async def test_a_gap_record_is_taken_however_full_it_is(tmp_path: Path) -> None:
    async with running(tmp_path, max_open_records=100, linger_ms=1) as rig:
        for number in range(50_101):
            rig.intake.put(trade(number))
        rig.intake.put(gap_record(60_000, None))
        rig.intake.put(trade(60_001))
    gaps = [record for record in records_of(await _read_again(tmp_path)) if isinstance(record, FeedGap)]
    # What was dropped before the gap is told before it, and apart from what was dropped after it.
    assert [(gap.cause, gap.detail) for gap in gaps] == [
        ("dropped", "1 record: the intake was full"),
        ("disconnect", None),
        ("dropped", "1 record: the intake was full"),
    ]


async def test_a_stretch_of_drops_is_one_gap_once_it_has_paused(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_open_records=100)
    for number in range(50_200):
        rig.intake.put(trade(number))
    last = trade(50_199).received_at
    rig.intake.settle_drops(last + 1_000_000)
    (pending,) = rig.intake.pending_gaps()  # it is known to who asks, and not over yet
    assert rig.intake.gaps.version == 0

    rig.intake.settle_drops(last + 1_000_001)
    assert rig.intake.pending_gaps() == [pending]
    assert rig.intake.gaps.version == 1
    rig.journal.close()


async def test_what_is_left_to_the_next_process_knows_of_a_gap_before_the_journal_does(tmp_path: Path) -> None:
    metrics = Metrics()
    journal = Journal(tmp_path, JournalConfig(), metrics)
    journal.open()
    journaled_when_asked: list[dict[str, int]] = []

    async def before_gaps() -> None:
        await asyncio.sleep(0)
        journaled_when_asked.append(metrics.totals(metrics.journaled))

    intake = Intake(journal, IntakeConfig(linger_ms=1), lambda _now: ALWAYS, metrics, before_gaps=before_gaps)
    task = asyncio.create_task(intake.run())
    intake.put(trade(1))
    intake.put(gap_record(2, None))
    intake.close()
    await asyncio.wait_for(task, 60)
    journal.close()
    assert journaled_when_asked == [{}]
    assert metrics.totals(metrics.journaled) == {"trades": 1, "gaps": 1}


async def test_open_gaps_are_counted_and_shown(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.intake.resume([gap_record(1, None), gap_record(1, None, "ETH/USDT")], [])

    def shown() -> tuple[dict[str, float], dict[str, int]]:
        return rig.metrics.values(rig.metrics.gaps_open, "channel"), rig.metrics.totals(rig.metrics.gaps, "cause")

    assert shown() == ({"trades": 2}, {})  # opened by another process
    rig.intake.put(gap_record(1, NOW_US + 5))
    assert shown() == ({"trades": 1}, {})
    rig.intake.put(gap_record(7, None))
    assert shown() == ({"trades": 2}, {"disconnect": 1})
    rig.intake.put(gap_record(7, NOW_US + 9))
    rig.intake.put(gap_record(7, NOW_US + 9))  # once more, with a remark
    assert shown() == ({"trades": 1}, {"disconnect": 1})
    assert [gap.symbol for gap in rig.intake.gaps.open.values()] == ["ETH/USDT"]
    rig.journal.close()


async def test_what_the_journal_dropped_becomes_gap_records_in_it(tmp_path: Path) -> None:
    metrics = Metrics()
    config = JournalConfig.model_validate({"max_bytes": 40_000, "when_full": "drop_oldest"})
    journal = Journal(tmp_path, config, metrics)
    journal.open()
    cursor = journal.cursor("slow")
    intake = Intake(journal, IntakeConfig(linger_ms=1), lambda _now: ALWAYS, metrics)
    task = asyncio.create_task(intake.run())
    sent = []
    for number in range(0, 6000, 20):
        batch = [trade(each, symbol="A/B" if each % 2 else "C/D") for each in range(number, number + 20)]
        sent += batch
        for record in batch:
            intake.put(record)
        async with asyncio.timeout(60):
            while intake.unjournaled():
                await asyncio.sleep(0)
    intake.close()
    await asyncio.wait_for(task, 60)
    kept: list[Record] = []
    while batches := await cursor.read(1000):
        kept += records_of(batches)
    journal.close()
    gaps = [record for record in kept if isinstance(record, FeedGap)]
    known = set(kept)
    lost = [record for record in sent if record not in known]
    assert len(lost) == metrics.totals(metrics.dropped)["trades"] > 0
    rows = {(gap.symbol, gap.time): gap for gap in gaps}  # the last record of a row counts
    assert sum(int((gap.detail or "").split()[0]) for gap in rows.values()) == len(lost)
    assert len(gaps) <= 4  # of each stream one when it began and one when it was over, however many files went
    for record in lost:
        inside = [gap for gap in gaps if gap.symbol == record.symbol and gap.time < record.time]
        assert any(gap.ended_at is not None and record.received_at < gap.ended_at for gap in inside), record


async def test_the_gate_counts_the_gap_that_is_told_before_another(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_open_records=100)
    for number in range(50_101):
        rig.intake.put(trade(number))
    async with driven(rig):
        await asyncio.wait_for(until_empty(rig), 60)
        for number in range(98):
            rig.intake.put(trade(50_101 + number))
        blocked = [rig.intake.is_blocked]
        rig.intake.put(gap_record(60_000, None))
        blocked.append(rig.intake.is_blocked)
        assert blocked == [False, True]
        assert 98 + len(rig.intake.pending_gaps()) == 100
    rig.journal.close()


async def test_large_books_hold_the_feeds_back_before_their_number_does(tmp_path: Path) -> None:
    """A thousand levels take about 180 kB: five books are over 800 kB."""
    deep = tuple((f"{price}.10", "1.50") for price in range(1, 501))
    rig = Rig(tmp_path, max_open_bytes=800_000)
    blocked = []
    for number in range(5):
        rig.intake.put(book(number, bids=deep, asks=deep))
        blocked.append(rig.intake.is_blocked)
    assert blocked == [False, False, False, False, True]
    for number in range(5, 29):
        rig.intake.put(book(number, bids=deep, asks=deep))
    async with driven(rig):
        await asyncio.wait_for(rig.intake.writable(), 60)
    stored = sum(type(record) is BookSnapshot for record in records_of(await rig.batches()))
    assert stored < 12
    assert stored + rig.metrics.totals(rig.metrics.dropped)["order_book"] == 29
    rig.journal.close()


@asynccontextmanager
async def driven(rig: Rig) -> AsyncIterator[None]:
    task = asyncio.create_task(rig.intake.run())
    yield
    rig.intake.close()
    await asyncio.wait_for(task, 60)


async def test_an_overload_gives_up_what_it_may_and_keeps_the_rest(tmp_path: Path) -> None:
    """2,000 of each before the journal takes any: trades all stay, books the newest, ticks the newest ten."""
    rig = Rig(
        tmp_path,
        max_open_records=100,
        max_batch_records=10,
        when_full={"ticks": "drop_oldest", "order_book": "conflate"},
    )
    symbols = ("BTC/USDT", "ETH/USDT")
    sent: list[MarketRecord] = []
    for number in range(2000):
        symbol = symbols[number % 2]
        sent += [trade(number, symbol=symbol), tick(number, symbol=symbol), book(number, symbol=symbol)]
    for record in sent:
        rig.intake.put(record)
    async with driven(rig):
        pass
    kept = records_of(await rig.batches())
    of = {kind: [record for record in kept if type(record) is kind] for kind in (Trade, Tick, BookSnapshot)}
    assert of[Trade] == [record for record in sent if type(record) is Trade]
    assert of[Tick][-10:] == [record for record in sent if type(record) is Tick][-10:]
    assert of[BookSnapshot][-2:] == [record for record in sent if type(record) is BookSnapshot][-2:]
    for kind in (Tick, BookSnapshot):
        for symbol in symbols:
            order = [record.time for record in of[kind] if record.symbol == symbol]
            assert order == sorted(set(order))
    dropped = rig.metrics.totals(rig.metrics.dropped)
    assert dropped == {"ticks": 2000 - len(of[Tick]), "order_book": 2000 - len(of[BookSnapshot])}
    assert rig.metrics.totals(rig.metrics.received) == {"trades": 2000, "ticks": 2000, "order_book": 2000}
    assert len(of[Tick]) + len(of[BookSnapshot]) < 100
    rig.journal.close()


async def test_what_was_spilled_comes_back_before_what_follows_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_open_records=100, max_batch_records=10, when_full={"ticks": "drop_oldest"})
    first = [tick(number) for number in range(55)]
    for record in first:
        rig.intake.put(record)
    async with driven(rig):
        await asyncio.wait_for(until_empty(rig), 60)
        rig.intake.put(tick(1000))
    assert records_of(await rig.batches()) == [*first, tick(1000)]
    rig.journal.close()


async def until_empty(rig: Rig) -> None:
    while rig.intake.unjournaled():
        await asyncio.sleep(0)


async def test_an_exchange_whose_clock_is_ahead_is_shown(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.intake.put(trade(time=NOW_US + 5_000_000, received_at=NOW_US))
    shown = 'ingestd_exchange_clock_ahead_seconds{channel="trades",exchange="binance"} 5.0'
    assert shown in exposed(rig.metrics)


async def test_what_is_backfilled_is_journaled_but_not_shown_live_and_its_delay_is_no_latency(tmp_path: Path) -> None:
    """A trade of an hour ago comes in beside one of now."""
    old = trade(1, time=NOW_US - 3_600_000_000, received_at=NOW_US)
    new = trade(2, time=NOW_US - 1000, received_at=NOW_US)
    metrics, journal = Metrics(), Journal(tmp_path, JournalConfig(), Metrics())
    journal.open()
    intake = Intake(journal, IntakeConfig(), lambda _now: ALWAYS, metrics, [(live := Live()).put_all])
    intake.put(new)
    intake.put_backfilled(old)
    intake.close()
    await asyncio.wait_for(intake.run(), 60)
    journal.close()
    assert records_of(await _read_again(tmp_path)) == [new, old]
    assert live.taken == [new]
    assert metrics.totals(metrics.received) == {"trades": 2}
    samples = [sample for family in metrics.exchange_latency_s.collect() for sample in family.samples]
    (delay,) = [sample.value for sample in samples if sample.name.endswith("_sum")]
    assert delay == pytest.approx(0.001)


async def test_one_record_that_comes_live_and_backfilled_is_two(tmp_path: Path) -> None:
    """The stream's live record is unjournaled and has a latency, though the very same object is backfilled, too."""
    record = trade(1, time=NOW_US - 1000, received_at=NOW_US)
    rig = Rig(tmp_path)
    rig.intake.put(record)
    rig.intake.put_backfilled(record)
    assert rig.intake.unjournaled() == {("binance", "trades", "BTC/USDT"): NOW_US - 1000}
    async with driven(rig):
        pass
    assert rig.metrics.totals(rig.metrics.received) == {"trades": 2}
    samples = [sample for family in rig.metrics.exchange_latency_s.collect() for sample in family.samples]
    assert [sample.value for sample in samples if sample.name.endswith("_count")] == [1]
    rig.journal.close()


async def test_what_is_backfilled_after_others_were_journaled_is_known_as_such(tmp_path: Path) -> None:
    async with running(tmp_path, linger_ms=1) as rig:
        for number in range(3):
            rig.intake.put(trade(number))
            await asyncio.wait_for(until_empty(rig), 60)
        rig.intake.put_backfilled(trade(1))
        assert rig.intake.unjournaled() == {}
        rig.intake.put(tick(9))
        assert list(rig.intake.unjournaled()) == [("binance", "ticks", "BTC/USDT")]
    assert records_of(await _read_again(tmp_path)) == [trade(0), trade(1), trade(2), trade(1), tick(9)]


async def test_what_was_set_aside_is_validated_when_it_comes_back(tmp_path: Path) -> None:
    """The live sinks had been told that it is not valid long before."""
    metrics, journal = Metrics(), Journal(tmp_path, JournalConfig(), Metrics())
    journal.open()
    config = IntakeConfig.model_validate(
        {"max_open_records": 100, "max_batch_records": 10, "linger_ms": 1, "when_full": {"ticks": "drop_oldest"}}
    )
    intake = Intake(journal, config, lambda _now: ALWAYS, metrics, [(live := Live()).put_all])
    for number in range(60):
        intake.put(trade(number))
    intake.put(tick(60, bid_price="-1"))
    intake.put(tick(61))
    task = asyncio.create_task(intake.run())
    while intake.unjournaled():
        await asyncio.sleep(0)
    intake.close()
    await asyncio.wait_for(task, 60)
    journal.close()
    *trades, refused, last = records_of(await _read_again(tmp_path))
    assert (trades, last) == ([trade(number) for number in range(60)], tick(61))
    assert isinstance(refused, Rejected)
    assert live.taken == [*trades, last]


async def test_a_stream_whose_records_are_all_rejected_is_named_until_one_is_not(tmp_path: Path) -> None:
    """Hours ahead; the other streams of the venue are well."""
    ahead = NOW_US * 3
    async with running(tmp_path, linger_ms=1) as rig:

        async def journaled(*records: MarketRecord) -> None:
            before = sum(rig.metrics.totals(rig.metrics.received).values())
            for record in records:
                rig.intake.put(record)
            while sum(rig.metrics.totals(rig.metrics.received).values()) < before + len(records):
                await asyncio.sleep(0.001)

        await journaled(trade(1, time=ahead), trade(2, symbol="ETH/USDT"), trade(3, time=ahead))
        assert rig.intake.rejections.all() == {}
        await journaled(trade(4, time=ahead), trade(5, symbol="ETH/USDT"))
        assert rig.intake.rejections.all() == {("binance", "trades", "BTC/USDT"): "too_far_ahead"}
        assert rig.metrics.totals(rig.metrics.rejected) == {"trades": 3}
        await journaled(trade(6))
        assert rig.intake.rejections.all() == {}
