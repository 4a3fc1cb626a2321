"""What the simulator has to know about a venue, and nothing more: one small file per venue implements `Venue`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

Json = Any  # a venue's JSON, whose shape only that venue's file knows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Stream(NamedTuple):
    """One stream of a venue. `name` is the venue's own; `channel` is ours (`ingestd.records`), or `other`."""

    name: str
    channel: str
    market_id: str


class SentTrade(NamedTuple):
    """One trade as it went over the socket: decimal texts as sent, `side` the taker's."""

    market_id: str
    trade_id: str
    price: str
    quantity: str
    time_us: int
    side: str


class SentTick(NamedTuple):
    """One best bid and ask as sent; None is what the venue leaves out (a time, a size)."""

    market_id: str
    bid_price: str | None
    bid_volume: str | None
    ask_price: str | None
    ask_volume: str | None
    time_us: int | None


class BookChange(NamedTuple):
    """What one frame does to a recorded book: rows are the venue's own, price and amount first, amount 0 removes."""

    market_id: str
    reset: bool
    bids: list[list[str]]
    asks: list[list[str]]
    sequence: int
    time_text: str


@dataclass(frozen=True, slots=True)
class Host:
    """One local path that stands for several real URL prefixes (`wss://…` or `https://…`)."""

    path: str
    prefixes: tuple[str, ...]


@dataclass(slots=True)
class Handshake:
    """What opening a socket already says: streams in the URL, whether frames are enveloped, what the venue greets."""

    streams: list[str] = field(default_factory=list)
    combined: bool = False
    greeting: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Request:
    """What a client's frame asks, and the venue's answers to it."""

    subscribe: list[str] = field(default_factory=list)
    unsubscribe: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RestCall:
    """One REST request; `path` is what follows the host, without the leading slash."""

    host: str
    path: str
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """`adapted` says what in the body is not as recorded; None: verbatim. `is_of_now`: its times are not shifted."""

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
        """Take one frame in. What is older than the book (recorded before its snapshot was taken) is left out."""
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
    """What a venue's `rest` may draw on: the capture's bodies, and the books at the cursor."""

    def recorded(self, url_part: str) -> list[str]:
        """The recorded bodies whose URL contains `url_part`, in file order."""

    def book(self, market_id: str) -> RecordedBook | None:
        """The book at the cursor, or None while nothing of it was replayed."""

    def market_ids(self) -> list[str]:
        """Those of which anything was recorded."""

    def newest_trades(self, market_id: str, limit: int) -> list[SentTrade]:
        """The last trades up to the cursor, also those that went to nobody; the newest first."""

    def now_ms(self) -> int:
        """The venue's clock: the capture's time at the cursor, shifted as the payloads are."""


class Venue(Protocol):
    """Frames, subscriptions and REST of one venue. Pure: no socket, no clock."""

    @property
    def exchange(self) -> str:
        """The ccxt id."""

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host clients of this venue dial."""

    def handshake(self, path: str, query: Mapping[str, str]) -> Handshake:
        """What the URL of a new socket asks for."""

    def request(self, text: str) -> Request:
        """Parse what a client sent. Raises `ValueError` on what is no request of this venue."""

    def stream_of(self, text: str) -> Stream | None:
        """The stream a recorded frame belongs to; None for acknowledgements, greetings and heartbeats."""

    def stands_in(self, asked: str, available: Iterable[str]) -> str | None:
        """The recorded stream that answers `asked`: itself, or the nearest one the capture has, or None."""

    def payload(self, text: str) -> str:
        """The frame without the envelope that depends on the connection."""

    def wrap(self, stream: str, payload: str) -> str:
        """The payload in the envelope of a combined connection."""

    def shift(self, stream: Stream, payload: str, delta_ms: int) -> str:
        """The same payload with the exchange's times moved by `delta_ms`; no other byte changes."""

    def shift_rest(self, body: str, delta_ms: int) -> str:
        """The same for a REST body."""

    def trades(self, payload: str) -> list[SentTrade]:
        """The trades in a frame of a `trades` stream."""

    def ticks(self, payload: str) -> list[SentTick]:
        """The best bid and ask in a frame of a `ticks` stream."""

    def book_change(self, payload: str) -> BookChange | None:
        """What a frame of an `order_book` stream does."""

    def first_book(self, market_id: str, source: RestSource) -> BookChange | None:
        """The recorded REST snapshot a market's diffs continue; None where snapshots come as frames."""

    def book_snapshot(self, stream: Stream, book: RecordedBook) -> str | None:
        """The frame a client gets that subscribes after the recorded snapshot went by; None: over REST."""

    def rest(self, call: RestCall, source: RestSource) -> RestAnswer | None:
        """Answer a REST request, or None for what this venue does not have."""

    def symbols(self, market_ids: Iterable[str], source: RestSource) -> dict[str, str]:
        """Unified symbol → market id, as ccxt names the markets."""


def parse_exact(text: str) -> Json:
    """JSON with every number kept as its own text."""
    return json.loads(text, parse_float=str, parse_int=str)


def shift_numbers(pattern: re.Pattern[str], text: str, delta_ms: int) -> str:
    """Add `delta_ms` to the digits of group 2; groups 1 and 3 are what stands around them."""

    def moved(match: re.Match[str]) -> str:
        return f"{match.group(1)}{int(match.group(2)) + delta_ms}{match.group(3)}"

    return pattern.sub(moved, text)


def shift_instants(pattern: re.Pattern[str], text: str, delta_ms: int) -> str:
    """The same for ISO 8601 texts (`2021-04-17T16:43:30.244075Z`); the number of decimals stays."""

    def moved(match: re.Match[str]) -> str:
        return f"{match.group(1)}{shift_instant(match.group(2), delta_ms)}{match.group(3)}"

    return pattern.sub(moved, text)


def shift_instant(text: str, delta_ms: int) -> str:
    """One ISO 8601 instant in UTC, moved."""
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
    """The first candidate the capture has."""
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
