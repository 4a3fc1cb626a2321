"""Time ranges as Arrow tables: the rows that the other functions read, with the digits that the database holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from ingestd.repository import CandlePayload, FundingPayload, OpenInterestPayload, TradePayload
from ingestd.storage.database import Database
from tests.integration.repository.fronts import Front

START = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=1)
PRICES = ["64000.10", "0.00000001", "99999999999999999999.999999999999999999", "1", "3.141592653589793238"]


async def test_a_range_of_trades_is_what_the_table_holds(db: Database, front: Front) -> None:
    await front.call(
        "upsert_trades",
        [
            TradePayload("BTCUSDT", START + timedelta(microseconds=number), str(number), price, "0.5", number % 2 == 0)
            for number, price in enumerate(PRICES)
        ],
    )
    await front.call("upsert_trades", [TradePayload("BTCUSDT", START - timedelta(seconds=1), 99, "1", "1")])
    await front.call("upsert_trades", [TradePayload("ETHUSDT", START, 98, "1", "1")])
    table = await front.call("arrow_trades", "BTCUSDT", START, START + timedelta(seconds=1))
    assert table.column("price").to_pylist() == [Decimal(price) for price in PRICES]
    assert table.column("trade_ts").to_pylist() == [START + timedelta(microseconds=n) for n in range(len(PRICES))]
    assert table.column("is_buyer_maker").to_pylist() == [True, False, True, False, True]
    assert set(table.column("symbol").to_pylist()) == {"BTCUSDT"}
    received = [row["received_at"] for row in await db.fetch("SELECT received_at FROM trades WHERE trade_id < '9'")]
    assert set(table.column("created_at").to_pylist()) == set(received)


async def test_every_function_has_a_table_with_the_same_rows(front: Front) -> None:
    end = START + timedelta(minutes=9)
    minutes = [START + timedelta(minutes=number) for number in range(10)]
    await front.call(
        "upsert_candles",
        [CandlePayload("BTCUSDT", at, "1.10", "2", "1", "1.5", "7", trades_count=n) for n, at in enumerate(minutes)],
    )
    await front.call("upsert_open_interest", [OpenInterestPayload("BTCUSDT", at, "5.25", None, "3") for at in minutes])
    await front.call("upsert_funding", [FundingPayload("BTCUSDT", at, "-0.0001") for at in minutes])
    candles = await front.call("arrow_candles", "BTCUSDT", START, end)
    found = await front.call("fetch_candles", "BTCUSDT", START, end)
    names = candles.column_names
    assert candles.to_pylist() == [{name: getattr(row, name) for name in names} for row in found]
    assert len(found) == 10
    interest = await front.call("arrow_open_interest", "BTCUSDT", START, end)
    assert interest.column("snapshot_ts").to_pylist() == minutes
    last = await front.call("latest_open_interest", "BTCUSDT")
    assert interest.to_pylist()[-1] == {name: getattr(last, name) for name in interest.column_names}
    funding = await front.call("arrow_funding", "BTCUSDT", START, end)
    last = await front.call("latest_funding", "BTCUSDT")
    assert funding.to_pylist()[-1] == {name: getattr(last, name) for name in funding.column_names}
    nothing = await front.call("arrow_funding", "BTCUSDT", end, START)
    assert (len(nothing), nothing.schema) == (0, funding.schema)


async def test_a_number_wider_than_usual_is_exact(front: Front) -> None:
    wide = "0.0000000000000000000000123"
    await front.call("upsert_funding", [FundingPayload("BTCUSDT", START, wide)])
    table = await front.call("arrow_funding", "BTCUSDT", START, START)
    assert table.column("funding_rate").to_pylist() == [Decimal(wide)]
