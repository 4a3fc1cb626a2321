"""CSV of PostgreSQL as Arrow tables: every digit, NULL apart from the empty text, times in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pandas
import polars
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.errors import IngestdError
from ingestd.repository import StoredCandle, StoredFunding, StoredTrade, arrow

HEADER = "trade_ts,trade_id,price,quantity,is_buyer_maker,side,created_at\n"
AT = "2026-01-06T22:00:00.123456Z"


def trades(*prices: str) -> bytes:
    rows = [f"{AT},{number},{price},2,t,sell,{AT}\n" for number, price in enumerate(prices)]
    return (HEADER + "".join(rows)).encode()


def test_a_row_has_the_values_and_types_of_its_columns() -> None:
    text = f'{HEADER}{AT},007,64000.10,0.00000001,t,sell,{AT}\n{AT},"",1,2,,,{AT}\n'
    table = arrow.table(StoredTrade, "binance", "BTCUSDT", text.encode())
    at = datetime(2026, 1, 6, 22, 0, 0, 123456, tzinfo=UTC)
    first, second = table.to_pylist()
    assert first == {
        "exchange": "binance", "symbol": "BTCUSDT", "trade_ts": at, "trade_id": "007", "price": Decimal("64000.10"),
        "quantity": Decimal("0.00000001"), "is_buyer_maker": True, "side": "sell", "created_at": at,
    }  # fmt: skip
    assert (second["trade_id"], second["is_buyer_maker"], second["side"]) == ("", None, None)
    assert table.schema.field("price").type == pyarrow.decimal128(38, 18)
    assert table.schema.field("trade_ts").type == pyarrow.timestamp("us", "UTC")


def test_no_row_is_an_empty_table_of_the_same_types() -> None:
    none, one = (arrow.table(StoredTrade, "binance", "X", trades(*prices)) for prices in ((), ("1",)))
    assert len(none) == 0
    assert none.schema == one.schema


@given(st.lists(st.decimals("0.000000000000000001", "99999999999999999999", places=18), min_size=1, max_size=20))
def test_usual_decimals_are_exact_in_arrow_polars_and_pandas(prices: list[Decimal]) -> None:
    table = arrow.table(StoredTrade, "binance", "X", trades(*(format(price, "f") for price in prices)))
    assert table.column("price").to_pylist() == prices
    frame = polars.from_arrow(table)
    assert isinstance(frame, polars.DataFrame)
    assert frame["price"].to_list() == prices
    assert list(table.to_pandas()["price"]) == prices
    assert list(table.to_pandas(types_mapper=pandas.ArrowDtype)["price"]) == prices


@pytest.mark.parametrize(
    "price", ["0." + "0" * 30 + "123", "123456789012345678901234567890.5", "170141183460469231731.5", "9" * 38]
)
def test_a_long_number_widens_the_table_and_is_not_cut(price: str) -> None:
    table = arrow.table(StoredTrade, "binance", "X", trades("1.5", price))
    assert table.column("price").to_pylist() == [Decimal("1.5"), Decimal(price)]
    assert table.schema.field("price").type == table.schema.field("quantity").type == pyarrow.decimal256(76, 38)


@pytest.mark.parametrize("price", ["0." + "0" * 38 + "1", "1" * 39, "1" * 45 + ".5", "7" * 76])
def test_a_number_that_is_too_long_even_so_is_an_error(price: str) -> None:
    with pytest.raises(IngestdError, match="binance X: a number has more than 38 digits"):
        arrow.table(StoredTrade, "binance", "X", trades(price))


@pytest.mark.parametrize("kind", [StoredCandle, StoredTrade, StoredFunding])
def test_times_are_written_alike_whatever_the_session_has_set(kind: type) -> None:
    text = arrow.as_texts(kind, "SELECT 1 -- a comment")
    assert "to_char(found.created_at AT TIME ZONE 'UTC'" in text
    assert text.endswith("FROM (\nSELECT 1 -- a comment\n) AS found"), "a comment at the end hides nothing"
