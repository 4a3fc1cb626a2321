"""What the native feed has to know about a venue, and nothing more: one short file per venue implements `Venue`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ingestd.records import Channel
from ingestd.venues.messages import BookChange, Decoder, Row

Markets = Mapping[str, Mapping[str, Any]]
"""ccxt's dicts of an exchange's markets, by unified symbol."""


class Asked(NamedTuple):
    """One stream to subscribe to."""

    channel: Channel
    market_id: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What the venue allows. `source` is where it says so."""

    streams_per_socket: int
    streams_per_message: int
    messages_per_s: float
    sockets_per_s: float
    source: str
    messages_per_hour: int | None = None  # on each socket


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """What must be sent so that the venue does not close the socket: `text`, or a WebSocket ping where that is None."""

    interval_s: float
    text: bytes | None = None


BestLevels = Callable[[int], Sequence[Row]]  # so many of a side, the best first


class BookRule(Protocol):
    """How a venue's changes follow one another; pure."""

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        """Whether this change goes onto a book that stands at `sequence` (None: the venue numbers nothing).

        True: it does. None: the book has it already, leave it out. False: something between them is missing.
        """


@runtime_checkable
class BookChecks(Protocol):
    """What the `book_rule` of a venue has besides, where its messages carry a checksum."""

    @property
    def depth(self) -> int | None:
        """How many levels of a side it keeps us informed of: one that leaves them is not named. None: of all."""

    def agrees(self, change: BookChange, bids: BestLevels, asks: BestLevels) -> bool:
        """Whether the change's `checksum` is that of the book after it. Asked only where the change has one."""


@runtime_checkable
class OwnMarketIds(Protocol):
    """What a venue has besides whose socket names markets otherwise than its REST interface."""

    def market_id(self, market: Mapping[str, Any]) -> str:
        """The socket's name of this market (ccxt's dict of it)."""


@runtime_checkable
class Greets(Protocol):
    """What a venue has besides that is to be asked something on each new connection."""

    def greeting(self) -> list[bytes]:
        """The messages to send before any stream is asked for."""


class Venue(Protocol):
    """Addresses, subscriptions, decoding and book rules of one venue. Pure: no socket, no clock."""

    @property
    def exchange(self) -> str:
        """The ccxt id."""

    @property
    def channels(self) -> frozenset[Channel]:
        """What it decodes itself; the rest of a feed's channels is left to ccxt."""

    @property
    def markets(self) -> frozenset[str]:
        """Which kinds of market (`kind_of`) it decodes them of; all others are left to ccxt."""

    @property
    def limits(self) -> Limits:
        """What the venue allows."""

    @property
    def keep_alive(self) -> KeepAlive | None:
        """None: nothing need be sent."""

    @property
    def book_over_rest(self) -> bool:
        """Whether a book begins with a REST snapshot; else the subscription brings one."""

    @property
    def book_rule(self) -> BookRule:
        """How its book changes follow one another."""

    def address(self, market: Mapping[str, Any], channel: Channel) -> str:
        """The URL whose socket carries this channel of this market (ccxt's dict of it)."""

    def subscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """The messages that ask for these, at most `streams_per_message` in each."""

    def unsubscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """The messages that end them."""

    def decoder(self, symbols: Mapping[str, str], start: int) -> Decoder:
        """The decoder of one connection. `symbols`: unified symbol by market id, of what may be delivered on it (it
        changes as streams are added and removed: keep the mapping, no copy);
        `start`: where the counter of arrivals begins for ids that are no numbers (`TradeIds`)."""
