"""Facts about an exchange's trades: its past trades, its newest ones, and how it marks special ones. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ingestd.records import Trade, TradeKind


class Paging(enum.Enum):
    """How a venue pages through its past trades."""

    FROM_ID = "from id"  # the oldest trades with this id or a later one
    BEFORE_ID = "before id"  # the newest trades with a smaller id
    FROM_TIME = "from time"  # the oldest trades since this time
    RECENT = "recent"  # the newest trades only


class Ids(enum.Enum):
    """How the ids of a series relate, and so what they prove about missing trades."""

    CONSECUTIVE = "consecutive"  # each id is the one before plus one: a missing trade shows
    INCREASING = "increasing"  # later trades have larger ids
    OPAQUE = "opaque"  # they prove nothing


@dataclass(frozen=True, slots=True)
class Series:
    """How to request the past trades of one stream. `params` are passed to ccxt's `fetch_trades` unchanged.

    `id_param`: the venue's name for the id parameter of a page. `is_known`: these ids are known to be the
    stream's; otherwise the first page is trusted only if it shares trades with the stored ones. `source`: the document
    that says what the ids are.
    """

    paging: Paging
    ids: Ids
    page_limit: int
    params: Mapping[str, str] = field(default_factory=dict)
    id_param: str | None = None
    is_known: bool = True
    source: str = ""


SeriesChoice = Callable[[str, str | None, bool], Series]
"""Chooses the series by kind of market (`spot`, `linear`, `inverse`), stream and whether there is an API key. Raises
Unfillable if no series serves the stream."""

ANY_SERIES = Series(Paging.FROM_TIME, Ids.OPAQUE, 1000, is_known=False)
"""The series of a venue without facts: its pages are trusted only if they share trades with the stream."""


Best = tuple[str | None, str | None, str | None, str | None]
"""The prices of the best bid and ask, and their sizes."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewestAnswer:
    """The venue's REST answer about the newest event of one stream.

    `mark`: the name of a series and a value in it that changes with each event and never without one. `trade_id`,
    `number`: the id of the newest trade, if REST uses the stream's ids. `time`: its time in microseconds. `best`: the
    best bid and ask. `is_certain`: False if the mark also changes with events that the stream does not deliver.
    `record`: the newest trade, as the stream would have delivered it.
    """

    mark: tuple[str, object]
    trade_id: str | None = None
    number: int | None = None
    time: int | None = None
    best: Best | None = None
    is_certain: bool = True
    record: Trade | None = None


@dataclass(frozen=True, slots=True)
class NewestRequest:
    """One request for the newest events of all markets.

    It is used only where its answer proves something. The answers of OKX, Bybit, Gate, KuCoin and Bitget do not: they
    give the last price, and sums over 24 hours, which also change when old trades leave the window.

    `method`: ccxt's method for the endpoint. `rows`: the rows of the answer, by market id. `read`: reads one row.
    `params`: the request's parameters, from the kind and the ids of the wanted markets. Where a request for a few
    markets costs less, they name these markets; without parameters it always returns all markets.
    """

    method: str
    rows: Callable[[Any], Mapping[str, Row]]
    read: Callable[[Row], NewestAnswer | None]
    params: Callable[[str, Sequence[str]], dict[str, Any]] = lambda _kind, _ids: {}


NewestRequestChoice = Callable[[str, str | None], NewestRequest | None]
"""Chooses the request by kind of market (`spot`, `linear`, `inverse`) and stream; None if no request proves
anything."""


def rows_by(name: str, rows: Sequence[Row]) -> dict[str, Row]:
    """The rows by the value of this field, in capitals."""
    return {str(row.get(name)).upper(): row for row in rows}


Labels = Mapping[str, TradeKind | None]

_NOT_SET = frozenset({"none", "", "false", "0", "no"})


@dataclass(frozen=True, slots=True)
class Marks:
    """How one venue marks its trades. Native decoders read the labels; with ccxt the raw message is looked up.

    `labels`: fields of the message, each with the kind for each of its values (None: an ordinary trade). A trade
    with a value that is not listed has the kind `other`: a metric counts it, and the candles include it. `flags`:
    fields that are true only for trades of one kind, each with this kind. `not_in_candles`: the kinds that the venue's
    own candles do not count. A kind belongs here only if the venue's documents or a recording say so.
    """

    labels: Mapping[str | int, Labels] = field(default_factory=dict)
    flags: Mapping[str | int, TradeKind] = field(default_factory=dict)
    not_in_candles: frozenset[TradeKind] = frozenset()

    def kinds_of(self, name: str) -> dict[str | None, TradeKind | None]:
        """The kind for each label of this field. A missing or empty label is an ordinary trade."""
        unmarked: dict[str | None, TradeKind | None] = {None: None, "": None}
        return unmarked | dict(self.labels[name].items())

    def kind(self, raw: Any) -> TradeKind | None:
        """The kind of the trade in this raw message; None if it is an ordinary one."""
        for name, kinds in self.labels.items():
            label = _value(raw, name)
            if label is not None and label != "":
                kind = kinds.get(str(label), "other")
                if kind is not None:
                    return kind
        for name, kind in self.flags.items():
            if str(_value(raw, name)).lower() not in _NOT_SET:
                return kind
        return None


def _value(raw: Any, name: str | int) -> Any:
    if isinstance(raw, Mapping):
        return raw.get(name)
    has_place = isinstance(name, int) and isinstance(raw, Sequence) and not isinstance(raw, str) and name < len(raw)
    return raw[name] if has_place else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trades:
    """Facts about an exchange's trades.

    `consecutive_ids`: the markets in which each id is the one before plus one, so that a missing trade shows: "all", or
    "aggregates", which means spot, and contracts if the stream is `aggTrade`. `past`: how to request past trades under
    the stream's ids. `newest`: the bulk request for the newest trades of all markets. `stream_option`: ccxt's method,
    its option and the default stream, where the feed's options choose the stream. `two_times`: REST and the socket give
    a trade different times, up to a second apart.
    """

    consecutive_ids: Literal["all", "aggregates"] | None = None
    past: Series | SeriesChoice = ANY_SERIES
    marks: Marks = field(default_factory=Marks)
    newest: NewestRequest | NewestRequestChoice | None = None
    stream_option: tuple[str, str, str] | None = None
    two_times: bool = False
