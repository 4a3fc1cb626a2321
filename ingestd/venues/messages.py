"""The messages that decoders make from a venue's frames. Prices and sizes are the venue's text; times, microseconds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from ingestd.records import MarketRecord

Row: TypeAlias = Sequence[str]  # price, amount, and further fields that some venues add


class BookChange(msgspec.Struct, frozen=True, gc=False):
    """A change to a symbol's book: each row's amount replaces the amount at that price; zero removes the price.

    A snapshot replaces the whole book. `first`, `last`: the sequence numbers of the changes in it. `previous`: the
    number of the message before it. `checksum`: the venue's checksum of the book after it. All are None if not sent.
    """

    symbol: str
    time: int
    received_at: int
    bids: Sequence[Row]
    asks: Sequence[Row]
    is_snapshot: bool = False
    first: int | None = None
    last: int | None = None
    previous: int | None = None
    checksum: int | None = None


class FrameNumber(msgspec.Struct, frozen=True, gc=False):
    """The frame's sequence number on its socket: a skipped number means a lost frame."""

    number: int


NoticeKind: TypeAlias = Literal["subscribed", "unsubscribed", "refused", "heartbeat", "restarting"]

CONFIRMED: Mapping[str, NoticeKind] = {"subscribe": "subscribed", "unsubscribe": "unsubscribed"}
"""The kind of notice for an operation that the venue confirms."""


class Notice(msgspec.Struct, frozen=True, gc=False):
    """A message about the connection or a subscription.

    `refused`: the venue will not deliver `market_id` (None if it does not say which). `restarting`: it is about to
    close the connection.
    """

    kind: NoticeKind
    text: str = ""
    market_id: str | None = None


Message: TypeAlias = MarketRecord | BookChange | FrameNumber | Notice


class Decoder(Protocol):
    """Decodes a venue's frames. It does no I/O and reads no clock."""

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        """The messages of one frame, in order. Data of markets that are not followed is left out.

        Raises ValueError (or its subclass `msgspec.DecodeError`) on a frame that the venue's documentation does not
        allow; then no part of the frame is used.
        """


_SUBSCRIBED_ALREADY = re.compile(r"\balready\b.*subscri|subscri.*\b(already|dup)|^already exist", re.IGNORECASE)


def says_subscribed(text: str) -> bool:
    """Whether the venue's error only says that the subscription exists already, which is no refusal."""
    return _SUBSCRIBED_ALREADY.search(text) is not None
