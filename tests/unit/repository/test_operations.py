"""What the functions of the repository ask of a database, without one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from ingestd.errors import ConfigError
from ingestd.repository import (
    CandlePayload,
    FundingPayload,
    OpenInterestPayload,
    StoredCandle,
    StoredFunding,
    StoredOpenInterest,
    StoredTrade,
    TradePayload,
    arrow,
    make_engine,
    operations,
)
from ingestd.repository.addresses import dsn_of
from ingestd.repository.markets import market_of
from ingestd.repository.operations import Query

NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)


def about(query: Query) -> list[dict[str, Any]]:
    """The answer of a database without any listed market."""
    assert query.name == "names"
    exchanges, names = query.values
    unknown = ("following", "symbol", "venue_name", "linear", "contract_size", "quantity_unit", "open_interest_unit")
    return [
        {"exchange": exchange, "name": name, "recorded": "unified", **dict.fromkeys(unknown)}
        for exchange, name in zip(exchanges, names, strict=True)  # type: ignore[call-overload]
    ]


def finished(operation: Any, rows: list[dict[str, Any]]) -> Any:
    with pytest.raises(StopIteration) as end:
        operation.send(rows)
    return end.value.value


@pytest.mark.parametrize(
    "upsert",
    [
        operations.upsert_candles,
        operations.upsert_trades,
        operations.upsert_open_interest,
        operations.upsert_funding,
    ],
)
def test_nothing_is_sent_for_no_payload(upsert: Callable[[list[Any]], Any]) -> None:
    with pytest.raises(StopIteration) as end:
        next(upsert([]))
    assert end.value.value == 0


def test_each_market_is_asked_for_once_and_all_rows_go_in_one_statement() -> None:
    payloads = [
        TradePayload(symbol, NOON + timedelta(seconds=number), number, "1.50", "2", exchange=exchange)
        for number, (symbol, exchange) in enumerate(
            [("BTCUSDT", "binance"), ("BTCUSDT", "okx"), ("BTCUSDT", "binance")]
        )
    ]
    operation = operations.upsert_trades(payloads)
    names = next(operation)
    assert names.values == (["binance", "okx"], ["BTCUSDT", "BTCUSDT"])
    query = operation.send(about(names))
    assert query.name == "upsert_trades"
    assert query.values[:5] == (
        ["binance", "okx", "binance"],
        ["BTC/USDT"] * 3,
        [NOON, NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)],
        ["0", "1", "2"],
        [0, 1, 2],
    )
    assert finished(operation, [{"stored": 2}]) == 2


@pytest.mark.parametrize(
    ("operation", "columns"),
    [
        (operations.upsert_candles([CandlePayload("BTC/USDT", NOON, "1", "2", "0.5", "1.5", 7, trades_count=3)]),
         (Decimal(1), Decimal(2), Decimal("0.5"), Decimal("1.5"), Decimal(7), None, 3, None, None)),
        (operations.upsert_open_interest([OpenInterestPayload("BTC/USDT", NOON, "5", None, "1.5")]),
         (Decimal(5), None, Decimal("1.5"), None)),
        (operations.upsert_funding([FundingPayload("BTC/USDT", NOON, "0.0001", payment="2")]),
         (Decimal("0.0001"), None, Decimal(2))),
    ],
)  # fmt: skip
def test_the_columns_of_a_row(operation: Any, columns: tuple[object, ...]) -> None:
    query = operation.send(about(next(operation)))
    assert query.values == (["binance"], ["BTC/USDT"], [NOON], *([value] for value in columns))


def test_rows_are_read_in_utc_with_the_text_that_was_asked_for() -> None:
    operation = operations.recent_trades("BTC-USDT", 5, "binance")
    query = operation.send(about(next(operation)))
    assert query == Query("recent_trades", ("binance", "BTC/USDT", 5))
    in_india = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    row = {
        "trade_ts": in_india, "trade_id": "1", "price": Decimal("1.50"), "quantity": Decimal(2),
        "is_buyer_maker": True, "side": "sell", "created_at": in_india,
    }  # fmt: skip
    (trade,) = finished(operation, [row])
    assert trade == StoredTrade("binance", "BTC-USDT", NOON, "1", Decimal("1.50"), Decimal(2), True, "sell", NOON)
    assert trade.trade_ts.tzinfo is UTC


def test_each_statement_has_one_text_whose_parameters_are_all_used() -> None:
    market = market_of(about(Query("names", (["binance"], ["BTCUSDT"])))[0])
    for kind in (StoredCandle, StoredTrade, StoredOpenInterest, StoredFunding):
        query = operations.between(kind, market, NOON, NOON)
        assert all(f"${number}::" in query.sql for number in range(1, len(query.values) + 1))
        assert f"${len(query.values) + 1}" not in query.sql


def test_the_address_is_the_given_one_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://u:p%40ss@h:6432/d")
    assert dsn_of(None) == "postgresql://u:p%40ss@h:6432/d"
    assert dsn_of("postgres+asyncpg://other/e") == "postgres://other/e"
    assert dsn_of("host=h password=postgresql+psycopg://") == "host=h password=postgresql+psycopg://"
    for nothing in ("", None):
        monkeypatch.delenv("DATABASE_URL") if nothing is None else monkeypatch.setenv("DATABASE_URL", nothing)
        with pytest.raises(ConfigError, match="dsn: is missing; pass dsn, or set DATABASE_URL"):
            dsn_of(None)


def test_a_mistake_in_the_variable_is_told_by_its_name_and_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://u:hunter2-hunter2@h/d")
    with pytest.raises(ConfigError) as refused:
        dsn_of(None)
    assert str(refused.value).startswith("DATABASE_URL: is neither a PostgreSQL URL nor key=value words")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("library", ["sqlalchemy", "psycopg"])
def test_without_sqlalchemy_the_extra_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=r"needs SQLAlchemy and psycopg: .*install the extra sqlalchemy"):
        make_engine("postgresql://u@h/d")


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"needs pyarrow: .*install the extra arrow"):
        arrow.table(StoredTrade, "binance", "BTCUSDT", b"")


def test_the_pool_is_that_of_the_document() -> None:
    """Kept 10, at most 30, tried before use."""
    engine = make_engine("postgresql://u@h/d")
    status = engine.pool.status()
    engine.dispose()
    assert "Pool size: 10" in status
    assert engine.dialect.driver == "psycopg"
