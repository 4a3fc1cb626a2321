"""`ingestd backfill` against venues that serve all of a range, less of it, or none: what it stores, says, and returns.

The venues are judged by what their documents say they serve; what is missing is computed from the trades themselves.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ccxt.pro
import pytest
import structlog
from click.testing import CliRunner

from ingestd.cli import cli, report
from ingestd.clock import from_datetime, to_datetime
from ingestd.records import Trade
from ingestd.storage.database import Database
from tests.integration.test_candle_audit import store
from tests.support.daemon import write_config
from tests.support.postgres import DatabaseForTest
from tests.support.rest_venue import Past, RestVenue, now_s, rest_venue

pytestmark = pytest.mark.one_server

SPACING_US = 100_123
TRADES = 350
PAGED = ["binance", "kraken", "coinbaseexchange", "okx"]  # by id, by time, backwards by id
NEWEST_ONLY = ["binanceusdm", "bybit"]  # 100 of them here
Stretch = tuple[datetime, datetime]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command configures it for its process."""
    root = logging.getLogger()
    before, handlers, level = structlog.get_config(), root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def kraken_without_its_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library asks Kraken once a second. How requests are spaced is tried elsewhere."""
    describe = ccxt.pro.kraken.describe
    monkeypatch.setattr(ccxt.pro.kraken, "describe", lambda self: {**describe(self), "rateLimit": 10})


@pytest.fixture
async def db(postgres_database: DatabaseForTest) -> AsyncIterator[Database]:
    database = await postgres_database.connect()
    yield database
    await database.close()


class Command:
    """`ingestd backfill` on one venue's stream."""

    def __init__(self, venue: RestVenue, database: DatabaseForTest, folder: Path, **feed: Any) -> None:
        if venue.exchange == "okx":
            feed["options"] = {"watchTrades": {"channel": "trades-all"}}
        described = {"exchange": venue.exchange, "symbols": [venue.symbol], "url_map": venue.url_map, **feed}
        described.setdefault("channels", ["trades"])
        backfill = {"rate_share": 1.0}
        document = {"database": {"dsn": database.dsn}, "backfill": backfill, "feeds": [described]}
        self._config_file = write_config(folder, document)
        self._venue = venue
        self.out = self.err = ""
        self.report: dict[str, Any] = {}

    async def __call__(self, *times: datetime, channel: str = "trades", **options: str) -> int:
        """From, to; the exit code."""
        asked = {"exchange": self._venue.exchange, "symbol": self._venue.symbol, **options}
        arguments = ["backfill", "-c", str(self._config_file), "--json", "--channel", channel]
        arguments += [word for name, value in asked.items() for word in (f"--{name}", value)]
        arguments += ["--from", times[0].isoformat(), *(["--to", times[1].isoformat()] if len(times) > 1 else [])]
        result = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
        self.out, self.err = result.stdout, result.stderr
        self.report = json.loads(self.out.splitlines()[-1]) if self.out.strip() else {}
        if isinstance(result.exception, Exception):
            return report(result.exception)
        return result.exit_code

    @property
    def missing(self) -> list[Stretch]:
        return [tuple(datetime.fromisoformat(one[name]) for name in ("from", "to")) for one in self.report["missing"]]  # type: ignore[misc]


def market() -> list[Past]:
    """Ids from 1001 on; the last trade was five minutes ago."""
    start_us = now_s() * 1_000_000 - 300_000_000 - TRADES * SPACING_US
    return [Past(1001 + index, start_us + index * SPACING_US, f"{100 + index % 7}.50") for index in range(TRADES)]


def second_after(trade: Past) -> datetime:
    return to_datetime(trade.time // 1_000_000 * 1_000_000 + 1_000_000)


def within(trades: Sequence[Past], start: datetime, end: datetime) -> set[str]:
    return {str(one.number) for one in trades if from_datetime(start) <= one.time < from_datetime(end)}


async def stored_ids(db: Database) -> set[str]:
    rows = [row["trade_id"] for row in await db.fetch("SELECT trade_id FROM trades")]
    assert len(rows) == len(set(rows))
    return {name.removeprefix("x") for name in rows}


@pytest.mark.parametrize("exchange", [*PAGED, *NEWEST_ONLY])
async def test_a_range_that_was_seen_from_end_to_end(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path, exchange: str
) -> None:
    trades = market()
    first, last = (270, 330) if exchange in NEWEST_ONLY else (110, 300)
    async with rest_venue(exchange, trades) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(trades[first]), second_after(trades[last])
        assert await backfill(*window) == 0, backfill.err
        assert await stored_ids(db) == within(trades, *window)
        assert (backfill.report["missing"], backfill.report["proved"]) == ([], True)
        consecutive = exchange not in ("okx", "bybit")
        assert backfill.report["verdict"].startswith("complete:" if consecutive else "covered:")
        assert await backfill(*window) == 0
        assert backfill.report["already_done"]
        # Half a second more is another range.
        longer = window[0], window[1] + timedelta(seconds=0.5)
        assert await backfill(*longer) == 0, backfill.err
        assert not backfill.report["already_done"]
        assert await stored_ids(db) == within(trades, *longer)


@pytest.mark.parametrize("exchange", [*PAGED, *NEWEST_ONLY])
async def test_a_range_that_begins_before_what_the_venue_still_has(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path, exchange: str
) -> None:
    trades = market()
    oldest = trades[-100] if exchange in NEWEST_ONLY else trades[0]
    async with rest_venue(exchange, trades) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        window = to_datetime(oldest.time // 1_000_000 * 1_000_000 - 5_000_000), second_after(trades[-20])
        for _ in range(2):
            assert await backfill(*window) == 1
            assert not backfill.report["already_done"]
            assert backfill.report["verdict"].startswith("not proved complete:")
            (stretch,) = backfill.missing
            assert stretch == (window[0], to_datetime(stretch_end(oldest, exchange)))
            assert "not proved to be stored" in backfill.err
        assert await stored_ids(db) == within(trades, to_datetime(oldest.time), window[1])


def stretch_end(trade: Past, exchange: str) -> int:
    """With its own moment, in the venue's own precision: milliseconds but for Kraken and Coinbase."""
    return 1 + (trade.time if exchange in ("kraken", "coinbaseexchange") else trade.time // 1000 * 1000)


@pytest.mark.parametrize("exchange", NEWEST_ONLY)
async def test_the_newest_trades_prove_nothing_of_a_range_that_they_do_not_touch(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path, exchange: str
) -> None:
    trades = market()
    async with rest_venue(exchange, trades) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(trades[20]), second_after(trades[150])
        for _ in range(2):
            assert await backfill(*window) == 1
            assert (backfill.report["stored"], backfill.report["already_done"]) == (0, False)
            assert backfill.missing == [window]
        assert await stored_ids(db) == set()


@pytest.mark.parametrize("exchange", PAGED)
async def test_a_venue_whose_pages_end_early(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path, exchange: str
) -> None:
    """By id or time it gives nothing after the 200th trade, though its newest trades are there."""
    trades = market()
    async with rest_venue(exchange, trades, ends_at=1200) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(trades[120]), second_after(trades[300])
        for _ in range(2):
            assert await backfill(*window) == 1
            assert not backfill.report["already_done"]
            (stretch,) = backfill.missing
            lost = {str(number) for number in range(1201, 1251)}
            assert lost <= within(trades, *stretch)
        assert not await stored_ids(db) & lost


@pytest.mark.parametrize("exchange", [name for name in PAGED if name != "okx"])
async def test_an_id_that_is_in_no_answer(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path, exchange: str
) -> None:
    everything = market()
    trades = [one for one in everything if one.number != 1180]  # the clock may tick between two calls of `market`
    async with rest_venue(exchange, trades) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(everything[120]), second_after(everything[300])
        for _ in range(2):
            assert await backfill(*window) == 1
            assert "1 of the ids" in backfill.report["verdict"]
            (stretch,) = backfill.missing
            assert within(everything, *stretch) <= {"1179", "1180", "1181"}
        assert await stored_ids(db) == within(trades, *window)
        if exchange == "kraken":
            return
        beside = second_after(everything[200]), second_after(everything[300])
        assert await backfill(*beside) == 0, backfill.err


@pytest.mark.parametrize("exchange", ["binance", "coinbaseexchange", "bybit"])
async def test_a_venue_without_any_trade(postgres_database: DatabaseForTest, tmp_path: Path, exchange: str) -> None:
    async with rest_venue(exchange) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        end = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=2)
        window = end - timedelta(hours=1), end
        assert await backfill(*window) == 1
        assert backfill.missing == [window]


@pytest.mark.parametrize("exchange", ["binance", "coinbaseexchange"])
async def test_a_range_in_which_nothing_was_traded(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path, exchange: str
) -> None:
    """The venue's newest trade is older than the range: that is what it says of it."""
    trades = market()
    async with rest_venue(exchange, trades) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(trades[-1]), second_after(trades[-1]) + timedelta(minutes=3)
        assert await backfill(*window) == 0, backfill.err
        assert await stored_ids(db) == set()
        # But not where the stream has stored a trade of it.
        later = trade_of(venue, Past(1351, from_datetime(window[0]) + 60_000_000))
        await store(db, [later])
        assert await backfill(*window) == 0
        wider = window[0], window[1] + timedelta(seconds=1)
        assert await backfill(*wider) == 1
        assert backfill.missing[-1][1] == wider[1]


async def test_the_first_trade_of_all_is_told_from_the_oldest_that_is_left(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path
) -> None:
    """By the venue's candles: there is none before the minute of the first trade, and it opens with it."""
    trades = market()
    minute_ms = trades[0].time // 60_000_000 * 60_000
    candle = [minute_ms, trades[0].price, "110", "90", "100", "1.0", minute_ms + 59_999, "1", 1, "1", "1", "0"]
    window = to_datetime(trades[0].time // 1_000_000 * 1_000_000), second_after(trades[300])
    async with rest_venue("binance", trades, candles=[candle]) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        venue.candles = [[minute_ms, "99.9", *candle[2:]]]  # something was traded before, at another price
        assert await backfill(*window) == 1
        venue.candles = [candle]
        assert await backfill(*window) == 0, backfill.err
        assert await stored_ids(db) == within(trades, *window)
        earlier = window[0] - timedelta(minutes=5), window[1]
        venue.candles = [[minute_ms - 120_000, *candle[1:]], candle]
        assert await backfill(*earlier) == 1


async def test_binance_spot_is_asked_for_old_trades_without_a_key(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    trades = market()
    async with rest_venue("binance", trades) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        assert await backfill(second_after(trades[110]), second_after(trades[300])) == 0, backfill.err
        asked = [(query, headers) for path, query, headers in venue.asked if path.endswith("api/v3/historicalTrades")]
        assert len(asked) >= 2
        for query, headers in asked:
            assert set(query) <= {"symbol", "limit", "fromId"}
            assert not {name.lower() for name in headers} & {"x-mbx-apikey"}


@pytest.mark.parametrize("exchange", ["binance", "coinbaseexchange", "okx", "bybit"])
async def test_what_validation_refuses_is_not_called_complete(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path, exchange: str
) -> None:
    trades = market()
    trades[280] = bad = dataclasses.replace(trades[280], price="0")
    async with rest_venue(exchange, trades) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(trades[270]), second_after(trades[320])
        for _ in range(2):
            assert await backfill(*window) == 1
            assert backfill.report["verdict"].startswith("not proved complete: 1 rows were put aside")
            (stretch,) = backfill.missing
            assert within(trades, *stretch) <= {str(bad.number)}
            assert abs(from_datetime(stretch[0]) - bad.time) < 1000
            assert not backfill.report["already_done"]
        assert await stored_ids(db) == within(trades, *window) - {str(bad.number)}


@pytest.mark.parametrize("exchange", ["kraken", "okx", "bybit"])
async def test_a_trade_that_cannot_be_read_is_not_called_complete(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path, exchange: str
) -> None:
    trades = market()
    bad = trades[300]
    trades[300] = dataclasses.replace(bad, price="")
    async with rest_venue(exchange, trades) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(trades[270]), second_after(trades[320])
        for _ in range(2):
            assert await backfill(*window) == 1
            assert backfill.report["verdict"].startswith("not proved complete: ")
            assert any(start <= to_datetime(bad.time) < end for start, end in backfill.missing)
            assert not backfill.report["already_done"]


@pytest.mark.parametrize("exchange", ["binance", "coinbaseexchange", "okx", "bybit"])
@pytest.mark.parametrize("refusal", ["RETURN NULL", "RAISE check_violation"])
async def test_what_the_table_does_not_take_is_not_called_complete(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path, exchange: str, refusal: str
) -> None:
    trades = market()
    kept_out = f"{trades[280].number}"
    await db.script(
        "CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.trade_id IN ('{kept_out}', 'x{kept_out}') THEN {refusal}; END IF; RETURN NEW; END $$; "
        "CREATE TRIGGER keep_out BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION keep_out()"
    )
    async with rest_venue(exchange, trades) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(trades[270]), second_after(trades[320])
        for _ in range(2):
            assert await backfill(*window) == 1
            assert backfill.report["verdict"].startswith("not proved complete: ")
            assert any(kept_out in within(trades, start, end + timedelta(milliseconds=1))
                       for start, end in backfill.missing)  # fmt: skip
        await db.execute("DROP TRIGGER keep_out ON trades")
        assert await backfill(*window) == 0, backfill.err
        assert await stored_ids(db) == within(trades, *window)


def trade_of(venue: RestVenue, one: Past, **changes: Any) -> Trade:
    values = {"time": one.time, "received_at": one.time + 5000, "trade_id": str(one.number), "seq": one.number}
    fields = {"exchange": venue.exchange, "symbol": venue.symbol, "price": one.price, "quantity": one.quantity}
    return Trade(**{**values, **fields, "side": "buy", **changes})


@pytest.mark.parametrize("exchange", ["kraken", "coinbaseexchange", "okx", "bitstamp"])
async def test_a_trade_has_one_time_whichever_way_it_came(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path, exchange: str
) -> None:
    """Every third was streamed, with its microseconds. REST cuts them (OKX to milliseconds, Bitstamp to seconds)."""
    trades = market()
    async with rest_venue(exchange, trades) as venue:
        await store(db, [trade_of(venue, one) for one in trades[::3]])
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(trades[110]), second_after(trades[300])
        assert await backfill(*window) == 0, backfill.err
        rows = await db.fetch("SELECT trade_id, time FROM trades ORDER BY seq")
        cut_us = {"okx": 1000, "bitstamp": 1_000_000}.get(exchange, 1)
        expected = {
            str(one.number): one.time if index % 3 == 0 else one.time // cut_us * cut_us
            for index, one in enumerate(trades)
            if index % 3 == 0 or str(one.number) in within(trades, *window)
        }
        assert len(rows) == len(expected)
        assert {row["trade_id"]: from_datetime(row["time"]) for row in rows} == expected


async def test_trades_that_were_streamed_in_whole_seconds_are_known_again(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path
) -> None:
    """As Coincheck's and Deepcoin's are, whose REST has milliseconds."""
    trades = market()
    async with rest_venue("okx", trades) as venue:
        await store(db, [trade_of(venue, one, time=one.time // 1_000_000 * 1_000_000) for one in trades[::3]])
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(trades[110]), second_after(trades[300])
        assert await backfill(*window) == 0, backfill.err
        assert await stored_ids(db) == within(trades, *window) | {str(one.number) for one in trades[::3]}


async def test_what_was_fetched_is_not_stored_again_when_it_is_streamed_later(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path
) -> None:
    """Bitstamp's REST has whole seconds, its socket microseconds: a daemon that was behind stores the same trades."""
    trades = market()
    async with rest_venue("bitstamp", trades) as venue:
        await store(db, [trade_of(venue, one) for one in trades[:100]])
        backfill = Command(venue, postgres_database, tmp_path)
        assert await backfill(second_after(trades[110]), second_after(trades[300])) == 0, backfill.err
        await store(db, [trade_of(venue, one) for one in trades])
        assert await stored_ids(db) == {str(one.number) for one in trades}


MINUTE = timedelta(minutes=1)


def kline(at: datetime) -> list[Any]:
    open_ms = from_datetime(at) // 1000
    return [open_ms, "1", "2", "0.5", "1.5", "10", open_ms + 59_999, "1", 1, "1", "1", "0"]


async def test_candles_are_complete_when_every_one_of_the_range_is_there(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path
) -> None:
    end = datetime.now(UTC).replace(second=0, microsecond=0) - 5 * MINUTE
    start = end - 700 * MINUTE  # more than a page
    opens = [start + index * MINUTE for index in range(700)]
    async with rest_venue("binance", candles=[kline(at) for at in opens]) as venue:
        backfill = Command(venue, postgres_database, tmp_path, channels=["candles"])
        assert await backfill(start, end, channel="candles") == 0, backfill.err
        assert backfill.report["verdict"].startswith("complete:")
        assert await db.fetchval("SELECT count(*) FROM ohlcv_data") == 700
        # The venue's past does not reach back, or its newest are not there yet.
        wider = start - timedelta(hours=1), end + 2 * MINUTE
        for _ in range(2):
            assert await backfill(*wider, channel="candles") == 1
            assert backfill.missing == [(wider[0], start), (end, wider[1])]
            assert not backfill.report["already_done"]
        venue.candles = [row for row in venue.candles if row[0] not in (kline(opens[3])[0], kline(opens[650])[0])]
        seconds = start - timedelta(seconds=30), end - timedelta(seconds=30)
        assert await backfill(*seconds, channel="candles") == 1
        assert backfill.missing == [(opens[3], opens[4]), (opens[650], opens[651])]
        assert "every" not in backfill.report["verdict"]
        venue.candles = []
        assert await backfill(start, end + MINUTE, channel="candles") == 1
        assert backfill.missing == [(start, end + MINUTE)]


async def test_a_candle_that_still_runs_is_not_there(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    running = now.replace(minute=0, second=0, microsecond=0)
    opens = [running - timedelta(hours=age) for age in (3, 2, 1, 0)]
    async with rest_venue("binance", candles=[kline(at) for at in opens]) as venue:
        backfill = Command(venue, postgres_database, tmp_path, channels=["candles"], candle_timeframe="1h")
        assert await backfill(opens[0], channel="candles") == 0, backfill.err  # by default up to where it began
        assert await backfill(opens[0], running + (now - running) / 2, channel="candles") in (1,)
        assert backfill.missing[0][0] == running


async def test_a_candle_that_validation_refuses_is_missing(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path
) -> None:
    end = datetime.now(UTC).replace(second=0, microsecond=0) - 5 * MINUTE
    opens = [end - index * MINUTE for index in range(20, 0, -1)]
    rows = [kline(at) for at in opens]
    rows[7][1] = "0"
    async with rest_venue("binance", candles=rows) as venue:
        backfill = Command(venue, postgres_database, tmp_path, channels=["candles"])
        for _ in range(2):
            assert await backfill(opens[0], end, channel="candles") == 1
            assert backfill.report["verdict"].startswith("not proved complete:")
            ((first, _),) = backfill.missing
            assert first == opens[7]
        assert await db.fetchval("SELECT count(*) FROM ohlcv_data") == 19


def ms(at: datetime) -> int:
    return from_datetime(at) // 1000


def settlement(at: datetime) -> dict[str, Any]:
    # Some milliseconds late, as the venue's are.
    return {
        "symbol": "BTCUSDT",
        "fundingRate": "0.0001",
        "fundingTime": from_datetime(at) // 1000 + 3,
        "markPrice": "1",
    }


async def test_funding_is_complete_when_no_settlement_is_left_out(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path
) -> None:
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    end -= timedelta(hours=end.hour % 8)
    settled = [end - timedelta(hours=8 * age) for age in range(30, 0, -1)]
    start = settled[6]
    async with rest_venue("binanceusdm", funding=[settlement(at) for at in settled]) as venue:
        backfill = Command(venue, postgres_database, tmp_path, channels=["funding"])
        assert await backfill(start, end, channel="funding") == 0, backfill.err
        assert await db.fetchval("SELECT count(*) FROM funding") == 24
        assert await backfill(start + timedelta(hours=1), start + timedelta(hours=3), channel="funding") == 0
        assert backfill.report["fetched"] == 0
        older = settled[0] - timedelta(days=3)
        assert await backfill(older, end, channel="funding") == 1
        (stretch,) = backfill.missing
        assert stretch[0] == older
        assert abs(stretch[1] - settled[0]) < MINUTE
        venue.funding = [row for row in venue.funding if row != settlement(settled[15])]
        assert await backfill(start - MINUTE, end, channel="funding") == 1
        (stretch,) = backfill.missing
        assert stretch[0] <= settled[15] + 2 * MINUTE
        assert stretch[1] >= settled[15]
        venue.funding = []
        assert await backfill(start - 2 * MINUTE, end, channel="funding") == 1
        assert backfill.missing == [(start - 2 * MINUTE, end)]


async def test_open_interest_is_complete_when_every_sample_is_there(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path
) -> None:
    five = timedelta(minutes=5)
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    times = [end - five * age for age in range(60, 0, -1)]
    samples = [
        {"symbol": "BTCUSDT", "sumOpenInterest": "5.1", "sumOpenInterestValue": "9", "timestamp": ms(at)}
        for at in times
    ]
    async with rest_venue("binanceusdm", interest=samples) as venue:
        backfill = Command(venue, postgres_database, tmp_path, channels=["open_interest"])
        assert await backfill(times[0], end, channel="open_interest") == 0, backfill.err
        assert await db.fetchval("SELECT count(*) FROM oi_snapshots") == 60
        venue.interest = [*samples[:20], *samples[22:]]
        assert await backfill(times[0] - five, end, channel="open_interest") == 1
        assert backfill.missing == [(times[0] - five, times[0]), (times[20], times[22])]


async def test_what_is_put_aside_is_not_called_stored(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path
) -> None:
    """A trade without a price that can be: the command says so, at every run."""
    trades = market()
    trades[200] = Past(trades[200].number, trades[200].time, "-1")
    async with rest_venue("kraken", trades) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(trades[110]), second_after(trades[300])
        for _ in range(2):
            assert await backfill(*window) == 1
            assert backfill.report["rejected"] == 1
            assert not backfill.report["already_done"]
        assert await stored_ids(db) == within(trades, *window) - {str(trades[200].number)}


KEEPS_OUT = (
    "CREATE FUNCTION keeps_out() RETURNS trigger LANGUAGE plpgsql AS "
    "$$BEGIN IF NEW.trade_id = '{}' THEN RETURN NULL; END IF; RETURN NEW; END$$;"
    "CREATE TRIGGER keeps_out BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION keeps_out()"
)


@pytest.mark.parametrize(
    ("harm", "cure"),
    [
        (KEEPS_OUT, "DROP TRIGGER keeps_out ON trades"),
        ("ALTER TABLE trades ADD CONSTRAINT odd CHECK (trade_id <> '{}')", "ALTER TABLE trades DROP CONSTRAINT odd"),
    ],
    ids=["kept-out", "refused"],
)
async def test_what_the_database_does_not_take_is_not_called_stored(
    postgres_database: DatabaseForTest, db: Database, tmp_path: Path, harm: str, cure: str
) -> None:
    """A trigger or a constraint of somebody else's; once it is gone the same command stores the rest."""
    trades = market()
    await db.script(harm.format(trades[200].number))
    async with rest_venue("kraken", trades) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        window = second_after(trades[110]), second_after(trades[300])
        for _ in range(2):
            assert await backfill(*window) == 1
            assert (backfill.report["rejected"], backfill.report["proved"]) == (1, False)
        assert await stored_ids(db) == within(trades, *window) - {str(trades[200].number)}
        await db.execute(cure)
        assert await backfill(*window) == 0, backfill.err
        assert await stored_ids(db) == within(trades, *window)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "btc/usdt", "BTC-USDT", "BTC/USDTT"])
async def test_a_symbol_that_the_venue_does_not_list_is_an_error_with_the_nearest(
    postgres_database: DatabaseForTest, tmp_path: Path, symbol: str
) -> None:
    async with rest_venue("binance", market()) as venue:
        backfill = Command(venue, postgres_database, tmp_path)
        end = datetime.now(UTC) - timedelta(minutes=2)
        assert await backfill(end - MINUTE, end, symbol=symbol) == 2
