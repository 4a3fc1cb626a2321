"""The rows of a flush, made batch by batch, against rows made one by one."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.records import Record, Tick, Trade
from ingestd.storage.writer import copy_text
from ingestd.storage.writer.rows import RowMaker
from ingestd.venues.market_names import Names
from tests.support.records import copy_lines, market_records, tick, trade


def made(*batches: list[Record]) -> RowMaker:
    maker = RowMaker(Names())
    for batch in batches:
        maker.add(batch)
    return maker


def test_the_order_is_that_of_the_index_and_of_arrival_within_it() -> None:
    rows = made(
        [
            trade(1, exchange="okx", symbol="B"),
            trade(2, exchange="binance", symbol="B"),
            trade(9, exchange="okx", symbol="A"),
        ],
        [
            trade(4, exchange="binance", symbol="A"),
            trade(3, exchange="okx", symbol="A"),
            trade(5, exchange="okx", symbol="B"),
        ],
    ).rows()["trades"]
    ordered = [record for record in rows.records if isinstance(record, Trade)]
    assert [(record.exchange, record.symbol, record.seq) for record in ordered] == [
        ("binance", "A", 4), ("binance", "B", 2), ("okx", "A", 9), ("okx", "A", 3), ("okx", "B", 1), ("okx", "B", 5),
    ]  # fmt: skip


@given(st.lists(st.lists(market_records(), max_size=8), max_size=4))
def test_every_record_is_one_row_of_its_table_and_each_row_names_its_record(batches: list[list[Record]]) -> None:
    rows = made(*batches).rows()
    found = [record for table in rows.values() for record in table.records]
    assert sorted(map(id, found)) == sorted(id(record) for batch in batches for record in batch)
    for name, table in rows.items():
        assert {copy_text.table_of(record) for record in table.records} == {name}
        lines = [copy_lines([record])[0].encode() for record in table.records]
        if table.columns != table.table.columns:
            assert table.columns + table.table.seldom == table.table.columns
            lines = [line.removesuffix(copy_text.ORDINARY_END.encode()) + b"\n" for line in lines]
        assert copy_text.split(table.payload) == lines
        assert table.count == len(lines)


MARKED = {"kind": {"kind": "adl"}, "in_candles": {"in_candles": False}, "unit": {"unit": "100 quote"}}


@pytest.mark.parametrize("what", MARKED)
@pytest.mark.parametrize("place", range(4))
def test_one_trade_that_is_no_ordinary_one_brings_the_columns_of_all(what: str, place: int) -> None:
    trades: list[Record] = [trade(number) for number in range(4)]
    trades[place] = msgspec.structs.replace(trades[place], **MARKED[what])  # type: ignore[arg-type]  # its own fields
    batches = [trades[:2], trades[2:]]

    rows = made(*batches).rows()["trades"]

    assert rows.columns == rows.table.columns
    assert copy_text.split(rows.payload) == [line.encode() for line in copy_lines(trades)]
    ordinary = made([trade(number) for number in range(4)]).rows()["trades"]
    assert ordinary.columns == rows.table.columns[:9]
    assert {line.count(b"\t") for line in copy_text.split(ordinary.payload)} == {8}


def test_a_row_is_taken_out_with_its_record() -> None:
    rows = made([trade(number, symbol=random.choice("ABC")) for number in range(30)]).rows()["trades"]
    lines, records = copy_text.split(rows.payload), list(rows.records)
    assert rows.take_out(7) is records[6]
    assert copy_text.split(rows.payload) == lines[:6] + lines[7:]
    assert rows.records == records[:6] + records[7:]
    assert rows.count == 29


def test_what_is_withheld_is_counted_and_makes_no_row() -> None:
    maker = RowMaker(Names(), lambda record: isinstance(record, Tick) and record.symbol == "A")
    maker.add([tick(1, symbol="A"), tick(2, symbol="B"), trade(3, symbol="A")])
    maker.add([tick(4, symbol="A")])
    assert {name: rows.count for name, rows in maker.rows().items()} == {"market_ticks": 1, "trades": 1}
    assert maker.withheld() == {"ticks": 2}


@pytest.mark.parametrize("first", [tick(1), trade(2)])
def test_the_tables_come_in_one_order_whatever_came_first(first: Record) -> None:
    assert list(made([first], [trade(3), tick(4)]).rows()) == ["market_ticks", "trades"]


def test_nothing_makes_no_rows() -> None:
    assert made([], []).rows() == {}
