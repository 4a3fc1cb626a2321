"""Choosing rows of the gap ledger, on every engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ingestd.storage.database import Database
from ingestd.storage.gap_ledger import GapChoice, count_gaps, list_gaps

T0 = datetime(2026, 1, 1, tzinfo=UTC)


async def test_rows_are_chosen_newest_first(db: Database) -> None:
    rows = [
        ("binance", "BTC/USDT", T0, T0 + timedelta(minutes=1), "closed"),
        ("binance", "ETH/USDT", T0 + timedelta(hours=1), None, "open"),
        ("kraken", "BTC/USD", T0 + timedelta(hours=2), T0 + timedelta(hours=3), "filled"),
        ("kraken", "ETH/USD", T0 + timedelta(hours=4), T0 + timedelta(hours=5), "unfillable"),
    ]
    for values in rows:
        await db.execute(
            "INSERT INTO feed_gaps (exchange, symbol, channel, started_at, ended_at, cause, status) "
            "VALUES ($1, $2, 'trades', $3, $4, 'restart', $5)",
            *values,
        )

    async def chosen(limit: int = 100, **choice: object) -> list[str]:
        return [row.symbol for row in await list_gaps(db, GapChoice(**choice), limit)]  # type: ignore[arg-type]

    assert await chosen() == ["ETH/USD", "BTC/USD", "ETH/USDT", "BTC/USDT"]
    assert await chosen(limit=2) == ["ETH/USD", "BTC/USD"]
    assert await chosen(open_only=True) == ["ETH/USDT"]
    assert await chosen(exchange="binance") == ["ETH/USDT", "BTC/USDT"]
    assert await chosen(symbol="BTC/USD") == ["BTC/USD"]
    assert await chosen(since=T0 + timedelta(minutes=2)) == ["ETH/USD", "BTC/USD", "ETH/USDT"]
    assert await chosen(since=T0 + timedelta(hours=3)) == ["ETH/USD", "BTC/USD", "ETH/USDT"]
    assert await chosen(since=T0 + timedelta(hours=4)) == ["ETH/USD", "ETH/USDT"]
    assert await chosen(exchange="'; DROP TABLE feed_gaps; --") == []
    assert await count_gaps(db, GapChoice()) == {"closed": 1, "filled": 1, "open": 1, "unfillable": 1}
    assert await count_gaps(db, GapChoice(exchange="kraken")) == {"filled": 1, "unfillable": 1}
    (row,) = await list_gaps(db, GapChoice(symbol="BTC/USDT"), 1)
    assert row.lasted_s(T0) == 60
    (row,) = await list_gaps(db, GapChoice(open_only=True), 1)
    assert row.lasted_s(T0 + timedelta(hours=2)) == 3600
