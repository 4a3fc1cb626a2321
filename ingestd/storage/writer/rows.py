"""The rows of one flush as COPY text, made batch by batch as they are read.

Batch by batch, so that a flush does not block the event loop, and records are still in the processor's cache.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from ingestd.channels import count_channels
from ingestd.records import Record, Rejected, Trade
from ingestd.storage.writer import copy_text
from ingestd.storage.writer.tables import TABLES, Table
from ingestd.storage.writer.two_times import EXCHANGES_WITH_TWO_TIMES
from ingestd.validation import rejection
from ingestd.venues.all import FACTS
from ingestd.venues.market_names import UNKNOWN_MARKET, Names


@dataclass(slots=True)
class Rows:
    """The rows of one table in one flush. `_order` gives each row's index in `_records`; None: they are in order."""

    table: Table
    columns: tuple[str, ...]  # of the payload; the other columns get their defaults
    payload: bytes  # the rows as COPY takes them
    _records: list[Record]
    _order: Sequence[int] | None
    staged: bool = False  # through the staging table: for `updates`, or after a unique violation
    in_portions: bool = False  # after many bad rows, or one that must be searched for
    doubts: int = 0  # failures in a row with an unknown error
    has_two_times: bool = False  # some trades are of venues that give one trade two times
    left_out: int = 0  # rows that are stored already, with another time

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self._records)

    @property
    def records(self) -> list[Record]:
        """The record behind each row. Computed on demand, since only refused rows need it."""
        if self._order is not None:
            self._records, self._order = [self._records[index] for index in self._order], None
        return self._records

    def take_out(self, line: int) -> Record:
        """Remove a row, counted from 1, and return its record."""
        lines = copy_text.split(self.payload)
        del lines[line - 1]
        self.payload = b"".join(lines)
        return self.records.pop(line - 1)

    def leave_out(self, indexes: Collection[int]) -> None:
        """Remove these rows, counted from 0: they are stored already."""
        if not indexes:
            return
        lines = copy_text.split(self.payload)
        self.payload = b"".join(line for index, line in enumerate(lines) if index not in indexes)
        self._records = [record for index, record in enumerate(self.records) if index not in indexes]
        self.left_out += len(indexes)


@dataclass(slots=True)
class _Lines:
    """The lines made for one table, in the order of the records."""

    lines: list[str] = field(default_factory=list)
    markets: list[str] = field(default_factory=list)  # of each line: exchange and stored symbol, by which it is sorted
    records: list[Record] = field(default_factory=list)
    are_full: bool = False  # whether lines have all columns; those of ordinary trades leave the last ones out

    def add(self, members: Sequence[Record], markets: Sequence[str]) -> None:
        made = self._made(members, markets)  # before `self.lines` is read: `_made` may replace that list
        self.lines += made
        self.markets += markets
        self.records += members

    def rows(self) -> Rows:
        table = TABLES[copy_text.table_of(self.records[0])]
        # Neighbours in the index, one after the other; rows of one market keep their order.
        order = sorted(range(len(self.lines)), key=self.markets.__getitem__)
        payload = copy_text.payload(map(self.lines.__getitem__, order))
        columns = table.columns if self.are_full else table.ordinary_columns
        two_times = isinstance(self.records[0], Trade) and any(
            self._has(exchange, order) for exchange in EXCHANGES_WITH_TWO_TIMES
        )
        return Rows(table, columns, payload, self.records, order, staged=bool(table.updates), has_two_times=two_times)

    def _has(self, exchange: str, order: Sequence[int]) -> bool:
        """Whether a row is of this exchange. `order` is by exchange, so few rows are looked at."""
        place = bisect_left(order, copy_text.market(exchange, ""), key=self.markets.__getitem__)
        return place < len(order) and self.records[order[place]].exchange == exchange

    def _made(self, members: Sequence[Record], markets: Sequence[str]) -> list[str]:
        if not self.are_full:
            short = copy_text.ordinary_trades(members, markets) if isinstance(members[0], Trade) else None
            if short is not None:
                return short
            self.lines = [line[:-1] + copy_text.ORDINARY_END for line in self.lines]
            self.are_full = True
        return copy_text.lines(members, markets)


class _Markets(dict[tuple[str, str], str]):
    """The text of `copy_text.market` by exchange and unified symbol.

    `uncounted`: contracts whose trades must say what they count. The database knows it of those that do not by the
    unified symbol (`ingestd_counted_base`), and of no other name.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self.uncounted: set[tuple[str, str]] = set()

    def __missing__(self, market: tuple[str, str]) -> str:
        text = self[market] = copy_text.market(market[0], self._names.name(*market))
        if self._names.style != "unified" and not _is_counted_in_base(*market):
            self.uncounted.add(market)
        return text


def _is_counted_in_base(exchange: str, symbol: str) -> bool:
    """Whether a trade that says nothing of its unit counts the base currency, as `ingestd_counted_base` has it."""
    pair, is_contract, settled = symbol.partition(":")
    if not is_contract or "/" not in pair:
        return True
    is_linear = settled.partition("-")[0] == pair.rpartition("/")[2]
    return is_linear and exchange in FACTS and FACTS[exchange].quantities.base_by_default


class RowMaker:
    """Makes the rows of one flush: `add` records, then ask for `rows`. Records for which `withheld` is
    true are only counted. `names` translates symbols; a record of an unknown market becomes a rejection."""

    def __init__(self, names: Names, withheld: Callable[[Record], bool] | None = None) -> None:
        self._names = names
        self._markets = _Markets(names)
        self._is_withheld = withheld
        self._made: defaultdict[type, _Lines] = defaultdict(_Lines)
        self._withheld: list[Record] = []
        self._unknown: list[Record] = []

    def add(self, records: Sequence[Record]) -> None:
        """Make the rows of these records. Raises MarketUnknown while a feed is still to bring its list of markets."""
        if self._is_withheld is not None:
            own: list[Record] = []
            for record in records:
                (self._withheld if self._is_withheld(record) else own).append(record)
            records = own
        if self._names.style == "venue":
            records = [self._known(record) for record in records]
        markets = self._markets
        for kind, members in _by_type(records):
            if kind is Rejected:
                self._made[kind].add(members, [""] * len(members))
            else:
                texts = [markets[record.exchange, record.symbol] for record in members]
                if kind is Trade and markets.uncounted:
                    members = _counted(members, markets.uncounted)
                self._made[kind].add(members, texts)

    def _known(self, record: Record) -> Record:
        """The record, or its rejection if its market is not known."""
        if isinstance(record, Rejected) or self._names.has(record.exchange, record.symbol):
            return record
        self._unknown.append(record)
        return rejection(record, copy_text.table_of(record), UNKNOWN_MARKET)

    def rows(self) -> dict[str, Rows]:
        """All rows, by table; always in the same order of tables, so that locks on several tables cannot deadlock."""
        made = {rows.table.name: rows for rows in [made.rows() for made in self._made.values()]}
        return {name: made[name] for name in TABLES if name in made}

    def unknown(self) -> dict[str, int]:
        """The number of records of unknown markets, by channel. Their rejections are among the rows."""
        return count_channels(self._unknown)

    def withheld(self) -> dict[str, int]:
        """The number of records left out, by channel."""
        return count_channels(self._withheld)


def _counted(trades: Sequence[Any], uncounted: Collection[tuple[str, str]]) -> Sequence[Trade]:
    """The trades; those say that their unit is unknown that say nothing of it, and whose symbol will not either."""
    return [
        replace(trade, unit="unknown") if trade.unit is None and (trade.exchange, trade.symbol) in uncounted else trade
        for trade in trades
    ]


def _by_type(records: Sequence[Record]) -> Iterable[tuple[type, Sequence[Record]]]:
    if len(set(map(type, records))) <= 1:
        return [(type(records[0]), records)] if records else []
    members: defaultdict[type, list[Record]] = defaultdict(list)
    for record in records:
        members[type(record)].append(record)
    return members.items()
