"""The interface between simulator and venues: one small file per venue implements `Venue`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

Json = Any  # a venue's JSON, whose structure only that venue's file knows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    """The data for a venue's `rest`: the capture's bodies, and the books at the cursor."""

    def recorded(self, url_part: str) -> list[str]:
        """The recorded bodies whose URL contains `url_part`, in file order."""

    def book(self, market_id: str) -> RecordedBook | None:
        """The book at the cursor, or None before its first frame."""

    def market_ids(self) -> list[str]:
        """The market ids with recorded frames."""

    def newest_trades(self, market_id: str, limit: int) -> list[SentTrade]:
        """The last trades up to the cursor, including those sent to nobody, newest first."""

    def now_ms(self) -> int:
        """The venue's clock: the capture's time at the cursor, shifted like the payloads."""


class Venue(Protocol):
    """Frames, subscriptions and REST of one venue. Pure: no socket, no clock."""

    @property
    def exchange(self) -> str:
        """The ccxt id."""

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host that clients of this venue connect to."""

    def handshake(self, path: str, query: Mapping[str, str]) -> Handshake:
        """Parse the URL of a new socket."""

    def request(self, text: str) -> Request:
        """Parse a client's frame. Raises `ValueError` if it is not a request of this venue."""

    def stream_of(self, text: str) -> Stream | None:
        """The stream of a recorded frame; None for acknowledgements, greetings and heartbeats."""

    def stands_in(self, asked: str, available: Iterable[str]) -> str | None:
        """The recorded stream that answers `asked`: the same, the closest one in the capture, or None."""

    def payload(self, text: str) -> str:
        """The frame without the envelope, which depends on the connection."""

    def wrap(self, stream: str, payload: str) -> str:
        """Put the payload into the envelope of a combined connection."""

    def shift(self, stream: Stream, payload: str, delta_ms: int) -> str:
        """Shift the exchange's times in the payload by `delta_ms`; no other byte changes."""

    def shift_rest(self, body: str, delta_ms: int) -> str:
        """Shift the exchange's times in a REST body."""

    def trades(self, payload: str) -> list[SentTrade]:
        """The trades in a frame of a `trades` stream."""

    def ticks(self, payload: str) -> list[SentTick]:
        """The best bid and ask in a frame of a `ticks` stream."""

    def book_change(self, payload: str) -> BookChange | None:
        """The book change in a frame of an `order_book` stream."""

    def first_book(self, market_id: str, source: RestSource) -> BookChange | None:
        """The recorded REST snapshot that a market's diffs continue; None if snapshots come as frames."""

    def book_snapshot(self, stream: Stream, book: RecordedBook) -> str | None:
        """The frame for a client that subscribes after the recorded snapshot; None: the snapshot comes over REST."""

    def rest(self, call: RestCall, source: RestSource) -> RestAnswer | None:
        """Answer a REST request; None if this venue does not have the endpoint."""

    def symbols(self, market_ids: Iterable[str], source: RestSource) -> dict[str, str]:
        """Unified symbol → market id, as ccxt names the markets."""


def parse_exact(text: str) -> Json:
    """Parse JSON, keeping every number as text."""
    return json.loads(text, parse_float=str, parse_int=str)


def shift_numbers(pattern: re.Pattern[str], text: str, delta_ms: int) -> str:
    """Add `delta_ms` to the digits in group 2; groups 1 and 3 are the text around them."""

    def moved(match: re.Match[str]) -> str:
        return f"{match.group(1)}{int(match.group(2)) + delta_ms}{match.group(3)}"

    return pattern.sub(moved, text)


def shift_instants(pattern: re.Pattern[str], text: str, delta_ms: int) -> str:
    """Shift ISO 8601 times (`2021-04-17T16:43:30.244075Z`), keeping the number of decimals."""

    def moved(match: re.Match[str]) -> str:
        return f"{match.group(1)}{shift_instant(match.group(2), delta_ms)}{match.group(3)}"

    return pattern.sub(moved, text)


def shift_instant(text: str, delta_ms: int) -> str:
    """Shift one ISO 8601 instant in UTC."""
    seconds, dot, decimals = text.rstrip("Z").partition(".")
    instant = datetime.fromisoformat(f"{seconds}+00:00")
    micros = int(decimals.ljust(6, "0")[:6]) if decimals else 0
    instant += timedelta(microseconds=micros, milliseconds=delta_ms)
    moved = instant.strftime("%Y-%m-%dT%H:%M:%S")
    return moved + (dot + f"{instant.microsecond:06d}".ljust(len(decimals), "0")[: len(decimals)]) + "Z"


def instant_us(text: str) -> int:
    """Microseconds since the epoch of an ISO 8601 instant in UTC."""
    delta = datetime.fromisoformat(text.replace("Z", "+00:00")) - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def first_available(candidates: Iterable[str], available: Iterable[str]) -> str | None:
    """The first candidate that is in the capture."""
    have = set(available)
    return next((name for name in candidates if name in have), None)


def iso_instant(time_us: int) -> str:
    """Microseconds since the epoch as an ISO 8601 instant in UTC."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")


def edit_rows(body: str, path: str, edit: Callable[[dict[str, Json]], None]) -> str:
    """Rewrite each object of the list under `path` in a REST body."""
    document = json.loads(body)
    for row in document[path] if path else document:
        edit(row)
    return json.dumps(document, separators=(",", ":"))
