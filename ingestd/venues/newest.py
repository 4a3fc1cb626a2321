"""The newest event of a market as an exchange's REST interface reports it, and bulk requests for all markets. Pure.

A bulk request is used only where its answer proves something. Those of OKX, Bybit, Gate, KuCoin and Bitget do not:
they return the last price, and sums over 24 hours, which also change when old trades leave the window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingestd.records import Trade

Mark = tuple[str, object]
Best = tuple[str | None, str | None, str | None, str | None]
"""The prices of the best bid and ask, and their sizes."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Word:
    """The venue's REST answer about the newest event of one stream.

    `mark`: the name of a series and a value in it that changes with each event and with nothing else. `trade_id`,
    `number`: the id of the newest trade, if REST uses the stream's ids. `time`: its time in microseconds. `best`: the
    best bid and ask. `is_certain`: False if an event may change the mark that the stream does not deliver.
    """

    mark: Mark
    trade_id: str | None = None
    number: int | None = None
    time: int | None = None
    best: Best | None = None
    is_certain: bool = True
    record: Trade | None = None  # the newest trade, as the stream would have delivered it


def no_params(_kind: str, _ids: Sequence[str]) -> dict[str, Any]:
    """No parameters: the request always returns all markets."""
    return {}


@dataclass(frozen=True, slots=True)
class Bulk:
    """One request for the newest events of all markets.

    `method`: ccxt's method for the endpoint. `rows`: the rows of the answer, by market id. `word`: reads one row.
    `params`: narrows the request to these market ids of one kind, where that costs less.
    """

    method: str
    rows: Callable[[Any], Mapping[str, Row]]
    word: Callable[[Row], Word | None]
    params: Callable[[str, Sequence[str]], dict[str, Any]] = no_params


BulkChoice = Callable[[str, str | None], Bulk | None]
"""Chooses the request by kind of market (`spot`, `linear`, `inverse`) and stream; None if no request proves
anything."""


def rows_by(name: str, rows: Sequence[Row]) -> dict[str, Row]:
    """The rows by the value of this field, in capitals."""
    return {str(row.get(name)).upper(): row for row in rows}


def whole(value: object) -> int | None:
    """The value as an integer; None if it is not one."""
    try:
        return int(value)  # type: ignore[call-overload,no-any-return]  # the venue may send any type
    except (TypeError, ValueError):
        return None
