"""What an exchange says over REST of the newest event of a market, and how all markets are asked about at once. Pure.

An exchange is asked about all its markets only where the answer proves something. What OKX, Bybit, Gate, KuCoin and
Bitget say in bulk does not: the last price, and sums over 24 hours that also change as trades leave them.
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
    """The newest event of one stream, by the venue's REST interface.

    `mark` is a series and a value in it, which changes with each event and with nothing else. `trade_id` and `number`
    are the newest trade's where they are of the stream's own series, `time` is its time; `best` is the best bid
    and ask. `is_certain`: False where an event that changes the mark need not be one of the stream.
    """

    mark: Mark
    trade_id: str | None = None
    number: int | None = None
    time: int | None = None
    best: Best | None = None
    is_certain: bool = True
    record: Trade | None = None  # the newest trade, as the stream would have brought it


def no_params(_kind: str, _ids: Sequence[str]) -> dict[str, Any]:
    """The request is always about all markets."""
    return {}


@dataclass(frozen=True, slots=True)
class Bulk:
    """One request about all markets: ccxt's own method for it, its parameters, and what a market's row says.

    `params` narrows the request to these market ids (of this kind) where that costs less.
    """

    method: str
    rows: Callable[[Any], Mapping[str, Row]]
    word: Callable[[Row], Word | None]
    params: Callable[[str, Sequence[str]], dict[str, Any]] = no_params


BulkChoice = Callable[[str, str | None], Bulk | None]
"""The request by kind of market (`spot`, `linear`, `inverse`) and stream; None: none proves anything."""


def rows_by(name: str, rows: Sequence[Row]) -> dict[str, Row]:
    """Rows by this field, in capitals."""
    return {str(row.get(name)).upper(): row for row in rows}


def whole(value: object) -> int | None:
    """The number that a row states; None where it is none."""
    try:
        return int(value)  # type: ignore[call-overload,no-any-return]  # whatever the venue sent
    except (TypeError, ValueError):
        return None
