"""What the readers of order book frames find in a frame, for exchanges whose code in ccxt does not look. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class NumberedFrame(NamedTuple):
    """A frame about one book, whose exchange numbers it.

    `market_id`: in the venue's words; `market_type`: where its ids are not unique.
    `numbers`: the part of it that states them.
    """

    frame: Any
    market_id: str
    numbers: Mapping[str, Any]
    is_whole: bool
    market_type: str | None = None


NumberedFrames = Callable[[Any, str], Iterable[NumberedFrame]]
"""The frame, one for each book that it is about. Of no book: none. The second argument is the URL of its socket."""


class BookFrame(NamedTuple):
    """The market whose whole book a frame brings, in the venue's words. `market_type`: where its ids are not unique."""

    market_id: str
    market_type: str | None = None


WholeBook = Callable[[Any, Mapping[str, Any]], BookFrame | None]
"""Whether a frame brings a whole book. The second argument is what ccxt keeps of its client's subscriptions."""


def part(frame: Any, name: str) -> Mapping[str, Any]:
    """The mapping of this name in a decoded frame; an empty one where there is none."""
    found = frame.get(name) if isinstance(frame, Mapping) else None
    return found if isinstance(found, dict) else {}


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}
