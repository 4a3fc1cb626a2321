"""What snapshots, fills, fees and open orders leave in `balances`, by hand, in any order and with repeats."""

from __future__ import annotations

import itertools
import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from ingestd.events.messages import Event, read_event
from ingestd.events.tables import store_events
from ingestd.storage.database import Database
from ingestd.storage.migrate import down, migrate
from tests.support.postgres import DatabaseForTest, default_config

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
TABLES = "orders, executions, order_endings, balance_snapshots, balances, audit.trade_logs, audit.system_events"


def event(event_type: str, second: int, **data: Any) -> Event:
    at = (BEGIN + timedelta(seconds=second)).isoformat()
    value = json.dumps({"event_type": event_type, "timestamp": at, "data": {"exchange": "kraken", **data}})
    return read_event(event_type, value.encode(), [], BEGIN + timedelta(days=1))


def order(second: int, side: str, quantity: str, price: str | None, **more: Any) -> Event:
    said = {"order_id": "1", "symbol": "BTC-USD", "order_type": "LIMIT", **more}
    return event("ORDER_SUBMITTED", second, side=side, quantity=quantity, price=price, **said)


def fill(second: int, quantity: str, price: str, **more: Any) -> Event:
    said = {"order_id": "1", "symbol": "BTC-USD", **more}
    return event("ORDER_EXECUTED", second, executed_price=price, executed_quantity=quantity, **said)


def cancel(second: int, **more: Any) -> Event:
    return event("ORDER_CANCELLED", second, **{"order_id": "1", "symbol": "BTC-USD", **more})


def snapshot(second: int, **held: tuple[str, str]) -> Event:
    rows = [{"asset": asset, "available": row[0], "locked": row[1]} for asset, row in held.items()]
    return event("BALANCE_SNAPSHOT", second, balances=rows)


OPENING = snapshot(0, USD=("1000", "0"), BTC=("2", "0"))
OPENING_LATER = snapshot(2, USD=("1000", "0"), BTC=("-1", "3"))
TWINS = snapshot(5, USD=("1", "0")), snapshot(5, USD=("2", "0"))
BUY = order(1, "buy", "3", "100")
SELL = order(1, "sell", "1.5", "100")

# What is published; what then is available and locked.
STORIES: dict[str, tuple[list[Event], dict[str, tuple[str, str]]]] = {
    "an opening snapshot": ([OPENING], {"USD": ("1000", "0"), "BTC": ("2", "0")}),
    "an order to buy locks money": ([OPENING, BUY], {"USD": ("700", "300"), "BTC": ("2", "0")}),
    "an order to sell locks coins": ([OPENING, SELL], {"USD": ("1000", "0"), "BTC": ("0.5", "1.5")}),
    "a market order locks nothing": (
        [OPENING, order(1, "buy", "3", "100", order_type="MARKET")],
        {"USD": ("1000", "0"), "BTC": ("2", "0")},
    ),
    "a part is bought cheaper": (
        [OPENING, BUY, fill(2, "1", "90")],  # 300 less 100 stay locked; 90 were paid
        {"USD": ("710", "200"), "BTC": ("3", "0")},
    ),
    "all is sold, with a fee in the quote currency": (
        [OPENING, SELL, fill(2, "1", "110", fee="0.5"), fill(3, "0.5", "100", fee="0.25")],
        {"USD": ("1159.25", "0"), "BTC": ("0.5", "0")},
    ),
    "a fee in another currency, and a rebate": (
        [OPENING, BUY, fill(2, "1", "100", fee="0.01", fee_currency="BNB"), fill(3, "2", "100", fee="-1")],
        {"USD": ("701", "0"), "BTC": ("5", "0"), "BNB": ("-0.01", "0")},
    ),
    "the rest is cancelled": (
        [OPENING, BUY, fill(2, "1", "100"), cancel(3)],
        {"USD": ("900", "0"), "BTC": ("3", "0")},
    ),
    "it is filled after it was cancelled": (
        [OPENING, BUY, cancel(2), fill(3, "1", "100")],
        {"USD": ("900", "0"), "BTC": ("3", "0")},
    ),
    "more is filled than was ordered": (
        [OPENING, SELL, fill(2, "1", "100"), fill(3, "1", "100"), cancel(4)],
        {"USD": ("1200", "0"), "BTC": ("0", "0")},
    ),
    "it is rejected": (
        [OPENING, BUY, event("ORDER_REJECTED", 2, order_id="1", symbol="BTC-USD")],
        {"USD": ("1000", "0"), "BTC": ("2", "0")},
    ),
    "a snapshot in between, with the order open": (
        [BUY, snapshot(2, USD=("500", "200")), fill(3, "1", "100")],  # the snapshot knows of one fill that we do not
        {"USD": ("500", "100"), "BTC": ("1", "0")},
    ),
    "a snapshot in between, with the order cancelled later": (
        [BUY, fill(2, "1", "100"), snapshot(3, USD=("500", "200")), cancel(4)],
        {"USD": ("700", "0"), "BTC": ("1", "0")},
    ),
    "a fill at the very time of the snapshot is in it": (
        [BUY, fill(2, "1", "100"), snapshot(2, USD=("500", "200"), BTC=("1", "0"))],
        {"USD": ("500", "200"), "BTC": ("1", "0")},
    ),
    "an older snapshot changes nothing": (
        [snapshot(5, USD=("500", "0")), snapshot(4, USD=("9", "9"))],
        {"USD": ("500", "0")},
    ),
    "without a snapshot it begins with nothing": (
        [BUY, fill(2, "3", "100")],
        {"USD": ("-300", "0"), "BTC": ("3", "0")},
    ),
    "a side that only the order says, an exchange that only the fill says": (
        [order(1, "sell", "1", "100", exchange=None), fill(2, "1", "100", exchange="kraken"), OPENING],
        {"USD": ("1100", "0"), "BTC": ("1", "0")},
    ),
    "the type of an order in small letters": (
        [OPENING, order(1, "buy", "3", "100", order_type="limit")],
        {"USD": ("700", "300"), "BTC": ("2", "0")},
    ),
    "of two reports of an end the earlier counts": (
        [BUY, cancel(2), snapshot(3, USD=("500", "0")), cancel(4)],
        {"USD": ("500", "0")},
    ),
    "one order ends, another stays open": (
        [OPENING, BUY, order(1, "buy", "2", "50", order_id="2"), cancel(2, order_id="2")],
        {"USD": ("700", "300"), "BTC": ("2", "0")},
    ),
    "two orders are filled, and more than was ordered": (
        [
            SELL,
            order(1, "sell", "1.5", "100", order_id="2"),
            OPENING_LATER,
            fill(3, "2", "100"),
            fill(4, "1", "100", order_id="2"),
        ],
        {"USD": ("1300", "0"), "BTC": ("-1.5", "0.5")},
    ),
    "an execution has another side than its order": (
        [OPENING, order(1, "buy", "3", "100", order_type="MARKET"), fill(2, "1", "100", side="sell")],
        {"USD": ("1100", "0"), "BTC": ("1", "0")},
    ),
    "an execution has another exchange than its order": (
        [OPENING, order(1, "sell", "1", "100"), fill(2, "1", "100", exchange="binance")],
        {"USD": ("1000", "0"), "BTC": ("2", "0"), "USD on binance": ("100", "0"), "BTC on binance": ("-1", "0")},
    ),
    "an execution whose side nobody says moves its fee only": (
        [OPENING, fill(2, "1", "100", fee="3")],
        {"USD": ("997", "0"), "BTC": ("2", "0")},
    ),
    "what is filled after the end unlocks nothing": (
        [BUY, cancel(2), snapshot(3, USD=("500", "0")), fill(4, "1", "100")],
        {"USD": ("400", "0"), "BTC": ("1", "0")},
    ),
    "more is filled than was ordered, at one time": (
        [OPENING, SELL, fill(2, "1", "100"), fill(2, "1", "101")],
        {"USD": ("1201", "0"), "BTC": ("0", "0")},
    ),
    "more is filled than was ordered, with a snapshot in between": (
        [SELL, fill(2, "1", "100"), snapshot(3, USD=("1100", "0"), BTC=("0.5", "0.5")), fill(4, "1", "100")],
        {"USD": ("1200", "0"), "BTC": ("0", "0")},
    ),
    "it is filled before it was submitted": (
        [order(4, "buy", "3", "100"), fill(2, "1", "90"), snapshot(3, USD=("910", "0"))],
        {"USD": ("710", "200"), "BTC": ("1", "0")},
    ),
    "it ends before it was submitted": (
        [order(4, "buy", "3", "100"), cancel(2), snapshot(3, USD=("910", "0"))],
        {"USD": ("910", "0")},
    ),
    "assets have snapshots of their own times": (
        [snapshot(2, USD=("500", "0")), fill(3, "1", "100", side="buy"), snapshot(5, BTC=("7", "0"))],
        {"USD": ("400", "0"), "BTC": ("7", "0")},
    ),
    "of two snapshots at one time one counts, whichever comes first": (
        list(TWINS),
        {"USD": ("1" if max(TWINS, key=lambda twin: twin.id) is TWINS[0] else "2", "0")},
    ),
    "a contract moves no currencies": (
        [OPENING, order(1, "buy", "1", "100", symbol="BTC/USD:USD"), fill(2, "1", "100", symbol="BTC/USD:USD")],
        {"USD": ("1000", "0"), "BTC": ("2", "0")},
    ),
}


async def balances(db: Database) -> dict[str, tuple[Decimal, Decimal]]:
    rows = await db.fetch("SELECT asset, exchange, available, locked FROM balances")
    return {
        row["asset"] if row["exchange"] == "kraken" else f"{row['asset']} on {row['exchange']}": (
            row["available"],
            row["locked"],
        )
        for row in rows
    }


@pytest.mark.parametrize("story", STORIES)
async def test_a_balance_is_what_happened(postgres_database: DatabaseForTest, story: str) -> None:
    events, expected = STORIES[story]
    wanted = {asset: (Decimal(available), Decimal(locked)) for asset, (available, locked) in expected.items()}
    db = await postgres_database.connect()
    draw = random.Random(story)
    orders = list(itertools.permutations(events))
    for arrival in draw.sample(orders, min(len(orders), 24)):
        await db.execute(f"TRUNCATE {TABLES}")
        for each in (*arrival, *draw.choices(events, k=2)):
            async with db.transaction():
                await store_events(db, [each], "kraken")
        held = await balances(db)
        assert {asset: row for asset, row in held.items() if any(row) or asset in wanted} == wanted
    await db.execute(f"TRUNCATE {TABLES}")
    async with db.transaction():
        await store_events(db, [*reversed(events), *events], "kraken")
    assert {asset: row for asset, row in (await balances(db)).items() if any(row) or asset in wanted} == wanted
    await db.close()


async def test_a_negative_balance_is_told_each_time_it_becomes_one(db: Database) -> None:
    said = []
    for number, events in enumerate(
        (
            [fill(1, "1", "100", side="buy")],  # -100 USD
            [fill(2, "1", "100", side="buy")],  # still negative: not told again
            [snapshot(3, USD=("50", "0"))],
            [fill(4, "1", "100", side="buy")],
        )
    ):
        async with db.transaction():
            await store_events(db, events)
        said.append(await db.fetchval("SELECT count(*) FROM audit.system_events"))
        assert number + 1 == len(said)
    assert said == [1, 1, 1, 2]
    row = await db.fetchrow("SELECT * FROM audit.system_events ORDER BY timestamp DESC LIMIT 1")
    assert row is not None
    assert (row["event_type"], row["severity"], row["component"]) == ("BALANCE_NEGATIVE", "WARNING", "balances")
    assert row["message"] == "The balance of USD on kraken is negative: -50 available, 0 locked"
    assert json.loads(row["metadata"])["asset"] == "USD"


async def test_what_was_stored_before_there_were_balances_counts(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    async with db.transaction():
        await store_events(db, [BUY, fill(2, "1", "90")])
    expected = await balances(db)
    assert expected == {"USD": (Decimal(-290), Decimal(200)), "BTC": (Decimal(1), Decimal(0))}
    await down(db, 16)
    await migrate(db, default_config())
    assert await balances(db) == expected
    async with db.transaction():
        await store_events(db, [fill(2, "1", "90"), cancel(3)])
    assert await balances(db) == {"USD": (Decimal(-90), Decimal(0)), "BTC": (Decimal(1), Decimal(0))}
    await db.close()


async def test_what_is_locked_may_be_negative_too_and_nothing_is_not(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    await told_of_what_is_locked(db)
    await db.close()


async def test_what_has_no_exchange_moves_nothing(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    await moves_nothing(db)
    await db.close()


async def moves_nothing(db: Database) -> None:
    async with db.transaction():
        await store_events(db, [order(1, "buy", "3", "100", exchange=None), fill(2, "1", "100", exchange=None)])
    assert await db.fetchval("SELECT status FROM orders") == "PARTIALLY_FILLED"
    assert await balances(db) == {}


async def told_of_what_is_locked(db: Database) -> None:
    for each in (snapshot(1, BTC=("0", "0")), BUY, snapshot(2, USD=("1000", "0")), cancel(3)):
        async with db.transaction():
            await store_events(db, [each])
    told = "SELECT message FROM audit.system_events ORDER BY created_at"
    assert [row["message"] for row in await db.fetch(told)] == [
        "The balance of USD on kraken is negative: -300 available, 300 locked",  # before its snapshot was known
        "The balance of USD on kraken is negative: 1300 available, -300 locked",
    ]


# The currencies that a fill moves: exchange, what an event calls the market, base and quote.
PAIRS: list[tuple[str, str, tuple[str, str] | None]] = [
    *(("kraken", text, ("XBT", "ZUSD")) for text in ("BTC/USD", "BTCUSD", "BTC-USD", "XXBTZUSD")),
    *(("other", text, ("BTC", "USD")) for text in ("BTC/USD", "BTC-USD", "btc_usd")),
    *(("kraken", text, None) for text in ("ETH/USD:USD", "ETHUSD.P", "ETH-USD.P", "PF_ETHUSD")),
    *(("other", text, None) for text in ("BTCUSD", "BTC-PERP", "BTC-SWAP", "BTC-FUT", "BTC-261225", "BTC/USD:USD")),
    *(("other", text, None) for text in ("BTC-USD-SWAP", "BTC-PERPETUAL", "-USD")),
]


async def test_the_currencies_of_a_market_are_those_of_its_names(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    await require_pairs(db)
    await db.close()


async def require_pairs(db: Database) -> None:
    await db.execute("DELETE FROM symbols")
    insert = (
        "INSERT INTO symbols (exchange, symbol, market_id, compact, dash, venue_name, base_currency, quote_currency,"
        " type) VALUES ($1, $2, $2, $3, $4, $5, $6, $7, $8)"
    )
    await db.execute(insert, "kraken", "BTC/USD", "BTCUSD", "BTC-USD", "XXBTZUSD", "XBT", "ZUSD", "spot")
    await db.execute(insert, "kraken", "ETH/USD:USD", "ETHUSD.P", "ETH-USD.P", "PF_ETHUSD", "ETH", "USD", "swap")
    for exchange, text, expected in PAIRS:
        found = await db.fetchval("SELECT ingestd_spot_pair($1, $2)", exchange, text)
        assert tuple(found or (None, None)) == (expected or (None, None)), (exchange, text)
    # A text that is a name of several markets: the unified symbol, else the compact name, else the dash name.
    names = [["A-B" if row == column else f"{row}{column}" for column in range(4)] for row in range(4)]
    for row in draw_of(names):
        await db.execute(insert, "odd", *row, f"base {row.index('A-B')}", "Q", "spot")
    for row in names:
        pair = await db.fetchval("SELECT ingestd_spot_pair('odd', 'A-B')")
        assert pair == [f"base {row.index('A-B')}", "Q"]
        await db.execute("DELETE FROM symbols WHERE exchange = 'odd' AND symbol = $1", row[0])


def draw_of(names: list[list[str]]) -> list[list[str]]:
    """In an order that is none of theirs."""
    return [names[place] for place in (2, 3, 1, 0)]
