"""The interface between the native feed and a venue: one file per venue implements `Venue`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ingestd.records import Channel
from ingestd.venues.messages import BookChange, Decoder, Row

Markets = Mapping[str, Mapping[str, Any]]
"""ccxt's dicts of an exchange's markets, by unified symbol."""


class Asked(NamedTuple):
    """A stream to subscribe to or to unsubscribe from."""

    channel: Channel
    market_id: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The venue's limits on sockets and subscriptions. `source`: the document that states them."""

    streams_per_socket: int
    streams_per_message: int
    messages_per_s: float
    sockets_per_s: float
    source: str
    messages_per_hour: int | None = None  # on each socket


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The message that keeps the venue from closing a quiet socket: `text`, or a WebSocket ping if that is None."""

    interval_s: float
    text: bytes | None = None


BestLevels = Callable[[int], Sequence[Row]]  # returns the n best levels of a side, best first


class BookRule(Protocol):
    """Decides by sequence numbers whether a change applies to a book. Pure."""

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        """Whether to apply the change to a book at `sequence` (None if the venue has no sequence numbers).

        True: apply it. None: skip it, because the book contains it already. False: a change between them is missing.
        """


@runtime_checkable
class BookChecks(Protocol):
    """The additional interface of a `book_rule` whose venue sends checksums."""

    @property
    def depth(self) -> int | None:
        """The number of levels of each side that the venue updates; None if all.

        The venue does not say when a level falls below this depth: we must drop it.
        """

    def agrees(self, change: BookChange, bids: BestLevels, asks: BestLevels) -> bool:
        """Whether the change's `checksum` matches the book after the change. Called only if the change has one."""


@runtime_checkable
class OwnMarketIds(Protocol):
    """The additional interface of a venue whose socket uses other market ids than its REST interface."""

    def market_id(self, market: Mapping[str, Any]) -> str:
        """The market's id on the socket. `market`: ccxt's dict."""


@runtime_checkable
class Greets(Protocol):
    """The additional interface of a venue that needs a request on each new connection."""

    def greeting(self) -> list[bytes]:
        """The messages to send before the first subscription."""


class Venue(Protocol):
    """Addresses, subscriptions, decoding and book rules of one venue. Pure: no socket, no clock."""

    @property
    def exchange(self) -> str:
        """The exchange's ccxt id."""

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that it decodes; ccxt reads a feed's other channels."""

    @property
    def markets(self) -> frozenset[str]:
        """The kinds of market (`kind_of`) that it decodes; ccxt reads the others."""

    @property
    def limits(self) -> Limits:
        """The venue's limits on sockets and subscriptions."""

    @property
    def keep_alive(self) -> KeepAlive | None:
        """The keep-alive message; None if the venue needs none."""

    @property
    def book_over_rest(self) -> bool:
        """Whether to load a book's snapshot over REST; if not, the subscription delivers one."""

    @property
    def book_rule(self) -> BookRule:
        """The rule that decides whether a change applies to a book."""

    def address(self, market: Mapping[str, Any], channel: Channel) -> str:
        """The URL of the socket that carries this channel of this market. `market`: ccxt's dict."""

    def subscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """The messages that subscribe to these streams, at most `streams_per_message` in each."""

    def unsubscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """The messages that unsubscribe from these streams."""

    def decoder(self, symbols: Mapping[str, str], start: int) -> Decoder:
        """The decoder of one connection.

        `symbols`: unified symbols by market id, of the markets that the connection may deliver. Keep the mapping
        itself, not a copy: it changes as streams are added and removed. `start`: first value of the arrival counter
        that orders trades whose ids are not numbers (`TradeIds`).
        """
