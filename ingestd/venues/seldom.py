"""Frames that are not of the kinds a decoder is fast at."""

from __future__ import annotations

from typing import TypeVar

import msgspec

Kind = TypeVar("Kind")

NESTED = "nested too deeply"  # of which the JSON library says RecursionError


def decoded(decoder: msgspec.json.Decoder[Kind], frame: bytes) -> Kind:
    """Raises ValueError on what the decoder does not take, however it is made."""
    try:
        return decoder.decode(frame)
    except RecursionError as error:
        raise ValueError(NESTED) from error
