"""What several decoders share: types of fields, paths in decoded JSON, and rare frames."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from ingestd.records import Side

Text = Annotated[str, msgspec.Meta(min_length=1)]
"""An id, a price or a size as sent; never empty."""

Milliseconds = Annotated[int, msgspec.Meta(gt=0, lt=2**53)]
"""Milliseconds since the epoch, as a JSON number, or as a text if the decoder is not `strict`."""

Counter = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""An id or a sequence number."""

Level = Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
"""A row of a book: price, amount, and further fields that some venues add."""

SIDES: dict[str, Side] = {"buy": "buy", "sell": "sell", "Buy": "buy", "Sell": "sell"}
"""The taker side, by the venue's word for it."""

NESTED = "nested too deeply"  # the JSON library raises RecursionError then

Kind = TypeVar("Kind")


def decoded(decoder: msgspec.json.Decoder[Kind], frame: bytes) -> Kind:
    """Decode a rare frame, which the decoder's fast path does not read. Raises ValueError if it is malformed."""
    try:
        return decoder.decode(frame)
    except RecursionError as error:
        raise ValueError(NESTED) from error


def at(frame: Any, *path: str | int) -> Any:
    """The value at this path in a decoded frame; None if there is none."""
    for step in path:
        try:
            frame = frame[step]
        except (KeyError, IndexError, TypeError):
            return None
    return frame


def part(frame: Any, *path: str | int) -> dict[str, Any]:
    """The JSON object at this path in a decoded frame; an empty one if there is none."""
    found = at(frame, *path)
    return found if isinstance(found, dict) else {}
