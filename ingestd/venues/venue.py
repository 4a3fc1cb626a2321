"""The interface between the native feed and a venue: each venue's file has a class derived from `Venue`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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

    streams_per_message: int
    messages_per_s: float
    sockets_per_s: float
    source: str
    messages_per_hour: int | None = None  # on each socket
    streams_per_socket: int = 300  # where no limit is documented


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The message that keeps the venue from closing a quiet socket: `text`, or a WebSocket ping if that is None."""

    interval_s: float
    text: bytes | None = None


BestLevels = Callable[[int], Sequence[Row]]  # returns the n best levels of a side, best first


class BookRule:
    """Decides whether a change applies to a book, and whether the book is right after it. Pure.

    The rule of a venue that numbers no changes is this class itself: there the numbers of frames, or checksums, show a
    lost change. `depth`: the number of levels of each side that the venue updates; None if all. The venue does not say
    when a level falls below this depth: we must drop it.
    """

    depth: int | None = None

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        """Whether to apply the change to a book at `sequence` (None if the venue has no sequence numbers).

        True: apply it. None: skip it, because the book contains it already. False: a change before it is missing.
        """
        return True

    def agrees(self, change: BookChange, bids: BestLevels, asks: BestLevels) -> bool:
        """Whether the change's `checksum` matches the book after the change. Called only if the change has one.

        By default it is not checked.
        """
        return True


class Venue(ABC):
    """Addresses, subscriptions, decoding and book rules of one venue. Pure: no socket, no clock.

    `exchange`: its ccxt id. `channels`, `markets`: the channels and the kinds of market (`kind_of`) that it decodes;
    ccxt reads the others. `url`: of its socket, if there is but one. `keep_alive`: None if the venue needs none.
    `book_over_rest`: whether to load a book's snapshot over REST; if not, the subscription delivers one.
    """

    exchange: str
    channels: frozenset[Channel]
    markets: frozenset[str]
    limits: Limits
    url: str
    keep_alive: KeepAlive | None = None
    book_over_rest: bool = False
    book_rule = BookRule()

    def __init__(self, options: Mapping[str, Any]) -> None:  # noqa: B027  # most venues have no option
        """`options`: the feed's. Where they choose another stream in ccxt, they do so here."""

    def market_id(self, market: Mapping[str, Any]) -> str:
        """The market's id on the socket. `market`: ccxt's dict."""
        return str(market["id"])

    def address(self, market: Mapping[str, Any], channel: Channel) -> str:
        """The URL of the socket that carries this channel of this market. `market`: ccxt's dict."""
        return self.url

    def greeting(self) -> list[bytes]:
        """The messages to send on each new connection, before the first subscription."""
        return []

    def subscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """The messages that subscribe to these streams, at most `streams_per_message` in each."""
        return self.requests("subscribe", streams, request_id)

    def unsubscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """The messages that unsubscribe from these streams."""
        return self.requests("unsubscribe", streams, request_id)

    @abstractmethod
    def requests(self, operation: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """The messages of an operation, `subscribe` or `unsubscribe`, on these streams."""

    @abstractmethod
    def decoder(self, symbols: Mapping[str, str], start: int) -> Decoder:
        """The decoder of one connection.

        `symbols`: unified symbols by market id, of the markets that the connection may deliver. Keep the mapping
        itself, not a copy: it changes as streams are added and removed. `start`: first value of the arrival counter
        that orders trades whose ids are not numbers (`TradeIds`).
        """
