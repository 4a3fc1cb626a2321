"""Anyone who may write to a topic writes any header: what genuine daemons send is stored all the same, exactly once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ingestd.channels import TABLE_OF
from ingestd.kafka import envelope
from ingestd.records import (
    Candle,
    FeedGap,
    Funding,
    Liquidation,
    MarketRecord,
    MarkPrice,
    OpenInterest,
    Record,
    Rejected,
)
from tests.support.postgres import DatabaseForTest
from tests.support.reader_rig import Topics
from tests.support.records import NOW_US, book, tick, trade
from tests.support.topics import topic_of

TRADES = "wolfinch.market.trades"
SUBMITTED = "wolfinch.orders.submitted"
FAR = (2**43 - 1, 2**20 - 1)
SECOND = 1_000_000
DAY = 86_400 * SECOND

# Headers of which no place can be read, or none that a database takes.
NO_PLACES = [
    b"a\x00b:1:0",
    b"\x00:1:0",
    b"j\x7f:1:0",
    b"j\n:1:0",
    b" j:1:0",
    b"\xff\xfe:1:0",
    b"\xed\xa0\x80:1:0",  # half a surrogate pair
    "日本:1:0".encode(),
    "j:١:٢".encode(),  # digits of another script
    b"j:+1:0",
    b"j:1_000:0",
    b"j: 1:0",
    b"j:1:0\n",
    b"j:-1:0",
    b"j:01:0",
    b"j:1e3:0",
    b"j:0x1:0",
    b"j:1:1048576",
    b"j:8796093022208:0",
    b"j:" + b"9" * 60 + b":0",
    b"j:" + b"9" * 5000 + b":0",
    b"j" * 65 + b":1:0",
    b"j" * 100_000 + b":1:0",
    b":::",
    b"",
    None,
]


@pytest.fixture
def topics(postgres_database: DatabaseForTest) -> Topics:
    return Topics(postgres_database.dsn)


def order(number: int) -> bytes:
    data = {"order_id": str(number), "symbol": "BTC-USD", "side": "buy", "quantity": "1"}
    return json.dumps({"event_type": "ORDER_SUBMITTED", "timestamp": "2026-09-21T10:00:00Z", "data": data}).encode()


async def test_a_header_that_names_no_place_costs_nothing(topics: Topics) -> None:
    async with topics.reading():
        for number, header in enumerate(NO_PLACES):
            topics.send_raw(TRADES, envelope.encode(trade(number)), header)
        topics.send(trade(1000), "j", 1)
    assert await topics.ask("SELECT count(*) FROM trades") == len(NO_PLACES) + 1
    assert await topics.ask("SELECT count(*) FROM ingest_positions WHERE source LIKE 'kafka-replay:%'") == 1
    assert topics.problem() == ""


async def test_event_topics_ignore_the_header(topics: Topics) -> None:
    headers = [*NO_PLACES, b"j:%d:%d" % FAR, b"j:1:0", b"j:1:0", b"other:7:7"]
    async with topics.reading(events=True):
        for number, header in enumerate(headers):
            topics.send_raw(SUBMITTED, order(number), header)
    assert await topics.ask("SELECT count(*) FROM orders") == len(headers)
    assert await topics.ask("SELECT count(*) FROM ingest_positions WHERE source LIKE 'kafka-replay:%'") == 0
    async with topics.reading(events=True):  # nothing is read again, whatever the last header says
        assert topics.broker.end((SUBMITTED, 0)) == len(headers)
    assert topics.total("duplicate") == 0


def of_every_table(number: int) -> list[Record]:
    """One record for each market topic; `number` makes them distinct, and each is received after those before it."""
    at = NOW_US + number * SECOND
    times: dict[str, Any] = {"time": at, "received_at": at}
    return [
        trade(number, **times),
        tick(number, **times),
        book(number, **times),
        Candle("binance", "BTC/USDT", at - at % 60 + number * 60, at, "1m", "1", "2", "1", "1", "5"),
        OpenInterest("binance", "BTC/USDT", at, at, "7"),
        Funding("binance", "BTC/USDT", at, at, "0.0001"),
        Liquidation("binance", "BTC/USDT", at, at, "sell", "1", "2"),
        MarkPrice("binance", "BTC/USDT", at, at, "1", "2"),
        FeedGap("binance", "BTC/USDT", at, at, "trades", at + 1, "disconnect"),
        Rejected("binance", "BTC/USDT", at, at, "trades", "price", json.dumps({"number": number})),
    ]


TABLES = (*TABLE_OF.values(), "feed_gaps")
COUNT_ALL = " + ".join(f"(SELECT count(*) FROM {table})" for table in (*TABLES, "rejected_records"))


async def count_all(topics: Topics) -> list[int]:
    return [await topics.ask(f"SELECT count(*) FROM {table}") for table in (*TABLES, "rejected_records")]


Forgery = Callable[[Topics, Record], None]


def no_record(topics: Topics, record: Record) -> None:
    """The place is that of a far future, the body is none."""
    topics.send_raw(topic_of("wolfinch", record), b"no JSON", b"feed:%d:%d" % FAR)


def not_acceptable(topics: Topics, record: Record) -> None:
    """The body is a record that is put aside."""
    value = envelope.encode(record).replace(b'"symbol":"BTC/USDT"', b'"symbol":"\\u0007"')
    assert b"\\u0007" in value
    if isinstance(record, Rejected):
        value = envelope.encode(record).replace(b'"table":"trades"', b'"table":""')
    topics.send_raw(topic_of("wolfinch", record), value, b"feed:%d:%d" % FAR)


def far_ahead(topics: Topics, record: Record) -> None:
    """A record that is right, at the last place there can be."""
    topics.send(record, "feed", *FAR)


def many_steps(topics: Topics, record: Record) -> None:
    """Each step alone could be."""
    for step in range(1, 40):
        topics.send(record, "feed", 10_000 * step)


@pytest.mark.parametrize("already_known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("forge", [no_record, not_acceptable, far_ahead, many_steps])
async def test_a_forged_place_hides_no_record_of_the_daemon(
    topics: Topics, forge: Forgery, already_known: bool
) -> None:
    genuine = [of_every_table(number) for number in range(1, 7)]
    async with topics.reading():
        if already_known:
            for index, record in enumerate(genuine[0]):
                topics.send(record, "feed", 1, index)
        await topics.until_stored()
        for record in genuine[0]:
            forge(topics, record)
        await topics.until_stored()
        forged = await count_all(topics)
        for position, records in enumerate(genuine[1:], start=2):
            for index, record in enumerate(records):
                topics.send(record, "feed", position, index)
    found = await count_all(topics)
    assert [now - before for now, before in zip(found, forged, strict=True)] == [5] * len(found)
    if forge in (far_ahead, many_steps):
        assert topics.total("places_doubted") >= len(found)
        assert topics.total("sink_alarms") == 1
        assert "the journal feed on wolfinch.market." in topics.problem()


async def test_a_forged_place_is_told_of_and_others_are_not(topics: Topics) -> None:
    async with topics.reading():
        topics.send(tick(1), "feed", 1)
        topics.send(tick(2), "feed", 2)
        await topics.until_stored()
        assert topics.problem() == ""
        topics.send(tick(3), "feed", *FAR)
        await topics.until_stored()
        assert "see who else may write to the topic" in topics.problem()
        for position in range(3, 8):
            topics.send(tick(position + 1), "feed", position)
        for position in range(3, 8):
            topics.send(tick(position + 1), "feed", position)
    assert await topics.ask("SELECT count(*) FROM market_ticks") == 8
    assert topics.total("duplicate") == 5
    assert topics.total("places_doubted") == 1


async def test_the_last_message_being_forged_does_not_make_the_topic_new(topics: Topics) -> None:
    """On each claim the message before the next one is looked at: whether it is the one that was stored."""
    async with topics.reading():
        for number in range(1, 6):
            topics.send(tick(number), "feed", number)
        topics.broker.append("wolfinch.market.ticks", b"k", envelope.encode(tick(7)))
        topics.send(tick(8), "feed", *FAR)
    for _ in range(2):
        async with topics.reading():
            assert await topics.ask("SELECT count(*) FROM market_ticks") == 7
    topics.send_raw("wolfinch.market.ticks", b"no JSON", b"feed:99:0")
    for _ in range(2):
        async with topics.reading():
            assert await topics.ask("SELECT count(*) FROM market_ticks") == 7
    topics.broker.log.clear()  # and one that is
    async with topics.reading():
        for number in range(20, 40):
            topics.send(tick(number), "feed", number)


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_backlog_of_days_is_no_forgery(topics: Topics, restarts: bool) -> None:
    """A daemon at 100 batches a second, most of them for other partitions; the reader was away for a week, or the
    broker was, and everything is read within the same second."""
    sent: list[tuple[MarketRecord, int]] = []
    position = 1
    for day in range(7):
        for minute in (0, 1, 3, 600):
            at = NOW_US + day * DAY + minute * 60 * SECOND
            position = 1 + (at - NOW_US) // SECOND * 100
            sent.append((tick(len(sent), time=at, received_at=at), position))
    for record, place in sent[:10]:
        topics.send(record, "feed", place)
    async with topics.reading():
        if not restarts:
            for record, place in sent[10:]:
                topics.send(record, "feed", place)
    for part in range(10, len(sent), 3) if restarts else ():
        for record, place in sent[part : part + 3]:
            topics.send(record, "feed", place)
        async with topics.reading():
            pass
    async with topics.reading():  # and all of it once more
        for record, place in sent:
            topics.send(record, "feed", place)
    assert await topics.ask("SELECT count(*) FROM market_ticks") == len(sent)
    assert topics.total("duplicate") == len(sent)
    assert topics.total("places_doubted") == 0


async def test_a_clock_that_was_set_back_is_no_forgery(topics: Topics) -> None:
    async with topics.reading():
        for position in range(1, 100):
            back = 1200 * SECOND if position > 50 else 0
            topics.send(tick(position, received_at=NOW_US + position * 20_000 - back), "feed", position)
        for position in range(1, 100):
            back = 1200 * SECOND if position > 50 else 0
            topics.send(tick(position, received_at=NOW_US + position * 20_000 - back), "feed", position)
    assert await topics.ask("SELECT count(*) FROM market_ticks") == 99
    assert topics.total("places_doubted") == 0


async def test_the_marks_are_bounded_and_those_in_use_stay(topics: Topics) -> None:
    invented = 3000
    async with topics.reading():
        for number in range(invented):
            topics.send(tick(number), f"invented{number}", 1)
            if number % 50 == 0:
                topics.send(tick(number), "feed", number + 1)
        await topics.until_stored()
        assert await topics.ask("SELECT count(*) FROM ingest_positions WHERE source LIKE 'kafka-replay:%'") <= 100
        topics.send(tick(2950), "feed", 2951)
    assert topics.total("duplicate") == 1
    assert await topics.ask("SELECT count(*) FROM market_ticks") == invented + 60


async def test_marks_left_by_an_earlier_flood_are_cleared_away(topics: Topics) -> None:
    async with topics.reading():
        topics.send(tick(1), "feed", 1)
    async with topics.database() as db:
        await db.execute(
            "INSERT INTO ingest_positions (source, position, updated_at) "
            "SELECT 'kafka-replay:wolfinch.market.ticks:0:x' || n, 5, now() - interval '1 hour' "
            "FROM generate_series(1, 30000) n"
        )
    async with topics.reading():
        topics.send(tick(1), "feed", 1)
    assert topics.total("duplicate") == 1
    assert await topics.ask("SELECT count(*) FROM ingest_positions WHERE source LIKE 'kafka-replay:%'") <= 101
