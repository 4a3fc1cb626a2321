"""A venue renames the id of a market, or gives it to another one, and tables hold the venue's own names: what is stored
stays under one name."""

from __future__ import annotations

from ingestd.config.values import SymbolStyle
from ingestd.ops.metrics import Metrics
from ingestd.sources.market_topics import MarketStore
from ingestd.status import MarketInfo
from ingestd.storage import symbol_style, symbols
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from ingestd.storage.migrations import read_sql
from ingestd.storage.writer.writer import prepare, write
from ingestd.validation import TimeWindow
from ingestd.venues.market_names import KnownMarkets, Names
from tests.support.postgres import DatabaseForTest, default_config
from tests.support.records import trade
from tests.unit.sources.test_symbol_styles import messages


def market(symbol: str, market_id: str) -> MarketInfo:
    base, quote = symbol.split("/")
    return MarketInfo("binance", symbol, market_id, base, quote, "spot", True)


async def restarted(database: DatabaseForTest, listed: list[MarketInfo], style: SymbolStyle = "venue") -> Database:
    """A connection of a process that begins with these lists, which Redis reads before the database answers."""
    names = Names(style, KnownMarkets(lambda: listed, awaited={"binance"}))
    for each in listed:
        names.has(each.exchange, each.symbol)
    db = await database.connect(names=names, application_name="test")
    if style != (await symbol_style.read(db))["symbol_style"]:
        config = default_config(database={"dsn": "postgresql://x/y", "symbol_style": style})
        await migrate(db, config, rename_symbols=True)
    await symbol_style.require(db)
    return db


async def stored_as(db: Database, symbol: str, number: int) -> str | None:
    """Store a trade, and tell the name that its row has."""
    await write(db, prepare([], [trade(number, symbol=symbol)], db.names))
    name: str | None = await db.fetchval("SELECT symbol FROM trades WHERE seq = $1", trade(number).seq)
    return name


async def listed_as(db: Database) -> dict[str, tuple[str, str | None, str]]:
    rows = await db.fetch("SELECT symbol, market_id, venue_name, status FROM symbols")
    return {row["symbol"]: (row["market_id"], row["venue_name"], row["status"]) for row in rows}


async def test_a_market_keeps_its_first_name(postgres_database: DatabaseForTest) -> None:
    db = await restarted(postgres_database, before := [market("BTC/USDT", "XBTUSDT"), market("ETH/USDT", "ETHUSDT")])
    await symbols.store_lists(db, before)
    assert await stored_as(db, "BTC/USDT", 1) == "XBTUSDT"

    # The id changes, and the old one is given to another market, while the process runs and at its next start.
    after = [market("BTC/USDT", "BTC1USDT"), market("XBT/USDT", "XBTUSDT"), market("ETH/USDT", "ETHUSDT")]
    await symbols.store_lists(db, after)
    assert await listed_as(db) == {
        "BTC/USDT": ("BTC1USDT", "XBTUSDT", "active"),
        "ETH/USDT": ("ETHUSDT", "ETHUSDT", "active"),
        "XBT/USDT": ("XBTUSDT", "XBTUSDT.XBTUSDT", "active"),
    }
    assert await symbols.store_lists(db, after) == 0
    for number in (2, 4):
        assert await stored_as(db, "BTC/USDT", number) == "XBTUSDT"
        assert await stored_as(db, "XBT/USDT", number + 1) == "XBTUSDT.XBTUSDT"
        await db.close()
        db = await restarted(postgres_database, after)
    # Programs may say the present id.
    for said, meant in {"BTC1USDT": "XBTUSDT", "XBT/USDT": "XBTUSDT.XBTUSDT", "Y": None}.items():
        assert await db.fetchval("SELECT ingestd_stored_symbol('binance', $1)", said) == (meant or said)
        (row,) = await db.fetch(read_sql("queries/repository/names.sql"), ["binance"], [said])
        assert row["venue_name"] == meant
    # A market that is not listed any more keeps a name that nobody else takes.
    await symbols.store_lists(db, after[1:])
    assert (await listed_as(db))["BTC/USDT"] == ("BTC1USDT", "XBTUSDT", "deprecated")
    await db.close()

    # In another style the name follows the venue's id.
    db = await restarted(postgres_database, after, "dash")
    assert {row["symbol"] for row in await db.fetch("SELECT symbol FROM trades")} == {"BTC-USDT", "XBT-USDT"}
    await symbols.store_lists(db, after)
    assert (await listed_as(db))["BTC/USDT"][1] == "BTC1USDT"
    assert (await listed_as(db))["XBT/USDT"][1] == "XBTUSDT"
    await db.close()


async def test_an_id_of_a_market_that_is_gone_is_free(postgres_database: DatabaseForTest) -> None:
    """What the venue calls by one name, one after the other, has one name in the tables."""
    db = await restarted(postgres_database, before := [market("XBT/USDT", "XBTUSDT")])
    await symbols.store_lists(db, before)
    await symbols.store_lists(db, [market("BTC/USDT", "XBTUSDT")])
    assert await stored_as(db, "BTC/USDT", 1) == "XBTUSDT"
    assert (await listed_as(db))["XBT/USDT"][1:] == (None, "deprecated")
    await db.close()


async def test_a_name_that_only_messages_have_told_is_the_same_for_the_next_process(
    postgres_database: DatabaseForTest,
) -> None:
    """The role `sink` has no lists. The daemon that sends is restarted after the venue has renamed the id, and one of
    three processes began to read before any of them had stored a name."""
    first, beside = [await restarted(postgres_database, []) for _ in "12"]
    for number, (db, market_id) in enumerate([(first, "XBTUSDT"), (beside, "BTC1USDT"), (None, "BTC1USDT")]):
        db = db or await restarted(postgres_database, [])
        sent = Names("venue", db.names.known)
        store = MarketStore("p", lambda _now: TimeWindow({}, 10**16), Metrics(), sent=sent, stored=db.names)
        items = store.read(messages("venue", [trade(number)], [market("BTC/USDT", market_id)]))
        await store.prepare(items, [], {}).write(db)
        assert await db.fetchval("SELECT symbol FROM trades WHERE seq = $1", number) == "XBTUSDT"
        await db.close()
