"""The interface between simulator and venues: one small file per venue derives from `Venue`."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, NamedTuple, Protocol

Json = Any  # a venue's JSON, whose structure only that venue's file knows


class Stream(NamedTuple):
    """One stream of a venue. `name` is the venue's name of it; `channel` is ours (`ingestd.records`), or `other`."""

    name: str
    channel: str
    market_id: str


class SentTrade(NamedTuple):
    """One trade as sent over the socket: decimal texts as sent, `side` the taker's."""

    market_id: str
    trade_id: str
    price: str
    quantity: str
    time_us: int
    side: str


class SentTick(NamedTuple):
    """One best bid and ask as sent; None for what the venue leaves out (a time, a size)."""

    market_id: str
    bid_price: str | None
    bid_volume: str | None
    ask_price: str | None
    ask_volume: str | None
    time_us: int | None


class BookChange(NamedTuple):
    """One frame's change to a recorded book. Rows are the venue's, price and amount first; amount 0 removes a level."""

    market_id: str
    reset: bool
    bids: list[list[str]]
    asks: list[list[str]]
    sequence: int
    time_text: str


@dataclass(frozen=True, slots=True)
class Host:
    """A local path that replaces several real URL prefixes (`wss://…` or `https://…`)."""

    path: str
    prefixes: tuple[str, ...]


@dataclass(slots=True)
class Handshake:
    """The result of opening a socket: streams named in the URL, whether frames are enveloped, the venue's greeting."""

    streams: list[str] = field(default_factory=list)
    combined: bool = False
    greeting: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Request:
    """The requests in a client's frame, and the venue's replies."""

    subscribe: list[str] = field(default_factory=list)
    unsubscribe: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, operation: object, names: list[str], replies: list[str]) -> Request:
        """`operation` is `subscribe`, `unsubscribe`, or one that the simulator does not know."""
        subscribe = names if operation == "subscribe" else []
        return cls(subscribe, names if operation == "unsubscribe" else [], replies)


@dataclass(frozen=True, slots=True)
class RestCall:
    """One REST request; `path` has no leading slash."""

    host: str
    path: str
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """`adapted` says how the body differs from the recording; None: verbatim. `is_of_now`: its times need no shift."""

    body: str
    adapted: str | None = None
    status: int = 200
    is_of_now: bool = False


@dataclass(slots=True)
class RecordedBook:
    """The book at the replay's cursor: rows by price text."""

    bids: dict[str, list[str]] = field(default_factory=dict)
    asks: dict[str, list[str]] = field(default_factory=dict)
    sequence: int = 0
    time_text: str = ""

    def apply(self, change: BookChange) -> None:
        """Apply one frame. Changes older than the book (recorded before its snapshot was taken) are ignored."""
        if not change.reset and change.sequence and change.sequence <= self.sequence:
            return
        if change.reset:
            self.bids.clear()
            self.asks.clear()
        for side, rows in ((self.bids, change.bids), (self.asks, change.asks)):
            for row in rows:
                if float(row[1]) == 0:
                    side.pop(row[0], None)
                else:
                    side[row[0]] = row
        self.sequence = change.sequence
        self.time_text = change.time_text

    def sorted_bids(self) -> list[list[str]]:
        """Best first."""
        return sorted(self.bids.values(), key=lambda row: -float(row[0]))

    def sorted_asks(self) -> list[list[str]]:
        """Best first."""
        return sorted(self.asks.values(), key=lambda row: float(row[0]))


class RestSource(Protocol):
    """The data for a venue's `rest`: the capture's bodies, and what was replayed up to the cursor."""

    symbols: dict[str, str]  # unified symbol → market id, of the markets with recorded frames
    books: dict[str, RecordedBook]  # by market id, once a frame of it was replayed

    def recorded(self, url_part: str) -> list[str]:
        """The recorded bodies whose URL contains `url_part`, in file order."""

    def newest_trades(self, market_id: str, limit: int) -> list[SentTrade]:
        """The last trades, including those sent to nobody, newest first."""

    def now_ms(self) -> int:
        """The venue's clock: the capture's time, shifted like the payloads."""


class Venue(ABC):
    """Frames, subscriptions and REST of one venue. Pure: no socket, no clock.

    Most venues name a stream by its channel and its market; here its name is `channel:market`.
    """

    exchange: str  # the ccxt id
    hosts: ClassVar[tuple[Host, ...]]  # every host that clients of this venue connect to
    stand_ins: ClassVar[Mapping[str, str]] = {}  # channel → the channel that replaces it if only that was recorded
    times: ClassVar[re.Pattern[str]]  # the exchange's times, in frames and REST bodies

    def handshake(self, path: str, query: Mapping[str, str]) -> Handshake:
        """Parse the URL of a new socket."""
        return Handshake()

    @abstractmethod
    def request(self, text: str) -> Request:
        """Parse a client's frame. Raises `ValueError` if it is not a request of this venue."""

    @abstractmethod
    def stream_of(self, text: str) -> Stream | None:
        """The stream of a recorded frame; None for acknowledgements, greetings and heartbeats."""

    def stands_in(self, asked: str, available: Iterable[str]) -> str | None:
        """The recorded stream that answers `asked`: the same, the closest one in the capture, or None."""
        channel, _, market = asked.partition(":")
        return first_available((asked, f"{self.stand_ins.get(channel, channel)}:{market}"), available)

    def payload(self, text: str) -> str:
        """The frame without the envelope, if it depends on the connection."""
        return text

    def wrap(self, stream: str, payload: str) -> str:
        """Put the payload into the envelope of a combined connection."""
        return payload

    def shift(self, stream: Stream, payload: str, delta_ms: int) -> str:
        """Shift the exchange's times in the payload by `delta_ms`; no other byte changes."""
        return shifted(self.times, payload, delta_ms)

    @abstractmethod
    def trades(self, payload: str) -> list[SentTrade]:
        """The trades in a frame of a `trades` stream."""

    @abstractmethod
    def ticks(self, payload: str) -> list[SentTick]:
        """The best bid and ask in a frame of a `ticks` stream."""

    @abstractmethod
    def book_change(self, payload: str) -> BookChange:
        """The book change in a frame of an `order_book` stream."""

    def first_book(self, market_id: str, source: RestSource) -> BookChange | None:
        """The recorded REST snapshot that a market's diffs continue; None if snapshots come as frames."""
        return None

    def book_snapshot(self, stream: Stream, book: RecordedBook) -> str | None:
        """The frame for a client that subscribes after the recorded snapshot; None: the snapshot comes over REST."""
        return None

    @abstractmethod
    def rest(self, call: RestCall, source: RestSource) -> RestAnswer | None:
        """Answer a REST request; None if this venue does not have the endpoint."""

    @abstractmethod
    def symbols(self, market_ids: Iterable[str], source: RestSource) -> dict[str, str]:
        """Unified symbol → market id, as ccxt names the markets."""


def compact(document: Json) -> str:
    """JSON without spaces, as venues write it."""
    return json.dumps(document, separators=(",", ":"))


def parse_exact(text: str) -> Json:
    """Parse JSON, keeping every number as text."""
    return json.loads(text, parse_float=str, parse_int=str)


def times_of(*keys: str) -> re.Pattern[str]:
    """Find the times under these keys: milliseconds, as a number or a text, or ISO 8601 in UTC."""
    return re.compile(rf'("(?:{"|".join(keys)})":"?)(\d{{13}}|\d{{4}}-\d\d-\d\dT[0-9:.]+Z)\b')


def shifted(pattern: re.Pattern[str], text: str, delta_ms: int) -> str:
    """Shift the times that stand in group 2, after group 1."""

    def moved(match: re.Match[str]) -> str:
        before, time = match.groups()
        return f"{before}{int(time) + delta_ms if time.isdigit() else shift_instant(time, delta_ms)}"

    return pattern.sub(moved, text)


def shift_instant(text: str, delta_ms: int) -> str:
    """Shift one ISO 8601 instant in UTC (`2021-04-17T16:43:30.244075Z`), keeping the number of decimals."""
    _, dot, decimals = text.rstrip("Z").partition(".")
    instant = datetime.fromisoformat(text) + timedelta(milliseconds=delta_ms)
    micros = f"{instant.microsecond:06d}".ljust(len(decimals), "0")[: len(decimals)]
    return f"{instant:%Y-%m-%dT%H:%M:%S}{dot}{micros}Z"


def first_available(candidates: Iterable[str], available: Iterable[str]) -> str | None:
    """The first candidate that is in the capture."""
    have = set(available)
    return next((name for name in candidates if name in have), None)
