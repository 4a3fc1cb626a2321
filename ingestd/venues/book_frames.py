"""Results of reading order book frames, for exchanges whose ccxt code ignores sequence numbers or snapshots. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class NumberedFrame(NamedTuple):
    """A frame of one book, with sequence numbers.

    `market_id`: the venue's id. `market_type`: needed if the venue's ids are not unique. `numbers`: the part of the
    frame that holds the sequence numbers. `is_whole`: the frame is a snapshot.
    """

    frame: Any
    market_id: str
    numbers: Mapping[str, Any]
    is_whole: bool
    market_type: str | None = None


NumberedFrames = Callable[[Any, str], Iterable[NumberedFrame]]
"""Reads a frame: returns one `NumberedFrame` for each book in it. The second argument is the URL of the socket."""


class BookFrame(NamedTuple):
    """The market whose book a frame holds. `market_id`: the venue's id. `market_type`: if ids are not unique."""

    market_id: str
    market_type: str | None = None


BookOfFrame = Callable[[Any, Mapping[str, Any]], BookFrame | None]
"""Finds the book of a frame of one kind; None if the frame is of another kind. The second argument is the
`subscriptions` of ccxt's client."""


def part(frame: Any, name: str) -> Mapping[str, Any]:
    """The mapping under this name in a decoded frame; an empty one if there is none."""
    found = frame.get(name) if isinstance(frame, Mapping) else None
    return found if isinstance(found, dict) else {}


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}
