"""What one frame of a venue says, once decoded. Prices and sizes are the venue's own text, times microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from ingestd.records import MarketRecord

Row: TypeAlias = Sequence[str]  # price, amount, and whatever else the venue adds


class BookChange(msgspec.Struct, frozen=True, gc=False):
    """What one message does to a symbol's book: a row's amount replaces that price's, zero removes it.

    A snapshot replaces the whole book. `first` and `last` number the changes it carries, `previous` is the number of
    the message before it, each where the venue says so; `checksum` is the venue's own of the book after it.
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
    """The frame's place among all that this socket carries: a number that is skipped is a frame that is lost."""

    number: int


class Notice(msgspec.Struct, frozen=True, gc=False):
    """What the venue says of the connection itself.

    `refused`: it will not deliver `market_id` (None: it does not say which). `restarting`: it is about to close.
    """

    kind: Literal["subscribed", "unsubscribed", "refused", "heartbeat", "restarting"]
    text: str = ""
    market_id: str | None = None


Message: TypeAlias = MarketRecord | BookChange | FrameNumber | Notice


class Decoder(Protocol):
    """A venue's decoder: no I/O, no clock, and no state but what names its trades."""

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        """What the frame says, in its order. What is of a market that is not followed is left out.

        Raises ValueError (of which `msgspec.DecodeError` is one) on what the venue's documentation does not allow:
        then nothing of the frame is taken.
        """
