"""Checks what the demo stored and published, against the ledger of the simulated exchange and the daemon's counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ingestd.channels import ROW_OF
from ingestd.lab.demo.processes import connected
from ingestd.lab.demo.run import Account
from ingestd.storage.database import Database

_CHANNELS = ("trades", "ticks", "order_book", "open_interest", "funding", "candles")
CHANNEL_TABLES = {channel: ROW_OF[channel].table for channel in _CHANNELS}
_MINUTE_US = 60_000_000
_TRADES = """
SELECT symbol, trade_id, (extract(epoch FROM time) * 1000000)::bigint, price::text, quantity::text, side FROM trades
"""
_TICKS = "SELECT symbol, bid_price::text, bid_volume::text, ask_price::text, ask_volume::text FROM market_ticks"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what must hold, and what was found."""

    name: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a demo: its checks, and what the database holds."""

    checks: Sequence[Check]
    rows: dict[str, int]
    candles: dict[str, int]
    gaps: int
    last_candles: Sequence[dict[str, Any]]

    @property
    def ok(self) -> bool:
        return all(check.holds for check in self.checks)


async def judge(account: Account) -> Verdict:
    """Compare the account of a run with the database, and its counts with each other."""
    async with connected(account.dsn) as database:
        rows = {table: await _count(database, table) for table in (*CHANNEL_TABLES.values(), "rejected_records")}
        candles = {name: await _count(database, f'"{name}"') for name in ("candles_1m", "candles_1h", "candles_1d")}
        gaps = await _count(database, "feed_gaps")
        code = account.exit_code
        checks = [Check("the daemon drained and ended with 0", code == 0, f"exit code {code}")]
        checks += [*_law_checks(account), *_row_checks(account, rows), *fanout_checks(account)]
        if account.ledger_trades is not None and account.ledger_ticks is not None:
            trades = _sent(account.ledger_trades, "symbol", "trade_id", "time_us", "price", "quantity", "side")
            checks.append(await _stored_check(database, "trade", trades, _TRADES))
            ticks = _sent(account.ledger_ticks, "symbol", "bid_price", "bid_volume", "ask_price", "ask_volume")
            checks.append(await _stored_check(database, "tick", ticks, _TICKS))
            checks.append(await _candles_check(database, account.ledger_trades))
        return Verdict(checks, rows, candles, gaps, await _last_candles(database))


def _law_checks(account: Account) -> list[Check]:
    """Check each channel: received + recovered = stored + duplicate + rejected + dropped + in journal."""
    counts = account.counts
    checks = []
    for channel in sorted({*counts["received"], *counts["recovered"]}):
        came = counts["received"].get(channel, 0) + counts["recovered"].get(channel, 0)
        went = {
            term: counts[term].get(channel, 0) for term in ("stored", "duplicate", "rejected", "dropped", "in_journal")
        }
        text = f"{came} = " + " + ".join(f"{count} {term}" for term, count in went.items())
        checks.append(Check(f"every received {channel} record is accounted for", came == sum(went.values()), text))
    return checks


def _row_checks(account: Account, rows: dict[str, int]) -> list[Check]:
    stored = account.counts["stored"]
    return [
        Check(f"{table} has the rows the daemon says it stored", rows[table] == stored.get(channel, 0),
              f"{rows[table]} rows, {stored.get(channel, 0)} stored")
        for channel, table in CHANNEL_TABLES.items()
        if rows[table] or stored.get(channel, 0)
    ]  # fmt: skip


def arrived(account: Account) -> tuple[dict[str, int], dict[str, int]]:
    """The number of messages by channel: at the subscriber of Redis, and in the topics of Kafka."""
    return dict(account.fanout.redis.counts), dict(account.fanout.topics.counts)


def fanout_checks(account: Account) -> list[Check]:
    """Check the daemon's counts against what the subscriber and the consumer got, and the trades against the ledger."""
    fanout = account.fanout
    redis, kafka = arrived(account)
    told = {
        "Redis channel of": (account.live, redis),
        "Kafka topic of": (account.counts["sinks"]["kafka"]["stored"], kafka),
    }
    checks = [
        Check(f"every message to the {where} {channel} arrived once", sent.get(channel, 0) == got.get(channel, 0),
              f"{sent.get(channel, 0)} sent, {got.get(channel, 0)} arrived")
        for where, (sent, got) in told.items()
        for channel in sorted({*sent, *got})
    ]  # fmt: skip
    if account.ledger_trades is not None:
        sent = _sent(account.ledger_trades, "trade_id", "price", "quantity", "side")
        for where, arrivals in (("reached the subscriber", fanout.redis), ("is in its topic once", fanout.topics)):
            checks.append(_same(f"every trade the venue sent {where}, digit for digit", sent, arrivals.trades))
    return checks


async def _stored_check(database: Database, what: str, sent: Counter[Any], query: str) -> Check:
    stored = Counter(tuple(row.values()) for row in await database.fetch(query))
    return _same(f"every {what} the venue sent is stored once, digit for digit", sent, stored)


def _sent(ledger: list[dict[str, Any]], *names: str) -> Counter[Any]:
    """Count the records of the ledger by these fields, except those that a closing socket may have lost."""
    return Counter(tuple(line[name] for name in names) for line in ledger if not line.get("uncertain"))


def _same(name: str, sent: Counter[Any], stored: Counter[Any]) -> Check:
    missing, extra = sent - stored, stored - sent
    text = f"{sent.total()} sent, {stored.total()} there"
    if missing:
        text += f"; {missing.total()} missing, first {next(iter(missing))}"
    if extra:
        text += f"; {extra.total()} not sent so, first {next(iter(extra))}"
    return Check(name, not missing and not extra, text)


async def _candles_check(database: Database, ledger: list[dict[str, Any]]) -> Check:
    """Check the 1-minute candles against candles computed from the ledger."""
    expected: dict[tuple[str, int], list[Any]] = {}
    trades = sorted(ledger, key=lambda trade: (trade["time_us"], _sequence(trade["trade_id"])))
    for trade in trades:
        price, quantity = Decimal(trade["price"]), Decimal(trade["quantity"])
        key = trade["symbol"], trade["time_us"] // _MINUTE_US
        candle = expected.setdefault(key, [price, price, price, price, Decimal(0), 0])
        candle[1], candle[2], candle[3] = max(candle[1], price), min(candle[2], price), price
        candle[4] += quantity
        candle[5] += 1
    stored = {
        (row["symbol"], row["minute"]): [row[name] for name in ("open", "high", "low", "close", "volume", "trades")]
        for row in await database.fetch(
            "SELECT symbol, (extract(epoch FROM bucket_start) / 60)::bigint AS minute, open, high, low, close, volume, "
            "trades_count AS trades FROM candles_1m"
        )
    }
    wrong = [key for key in {*expected, *stored} if expected.get(key) != stored.get(key)]
    text = f"{len(stored)} candles" + (f"; {len(wrong)} differ, first {wrong[0]}" if wrong else "")
    return Check("the 1-minute candles are those of the trades sent", not wrong, text)


def _sequence(trade_id: str) -> int:
    return int(trade_id) if trade_id.isdigit() else 0


async def _count(database: Database, relation: str) -> int:
    return int(await database.fetchval(f"SELECT count(*) FROM {relation}"))  # noqa: S608 # our own names


async def _last_candles(database: Database) -> list[dict[str, Any]]:
    rows = await database.fetch(
        "SELECT exchange, symbol, bucket_start, open, high, low, close, volume, trades_count FROM candles_1m "
        "ORDER BY bucket_start DESC, exchange, symbol LIMIT 8"
    )
    return [dict(row) for row in rows]
