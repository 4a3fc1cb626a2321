"""Decodes rare frames, which a decoder's fast path does not read."""

from __future__ import annotations

from typing import TypeVar

import msgspec

Kind = TypeVar("Kind")

NESTED = "nested too deeply"  # the JSON library raises RecursionError then


def decoded(decoder: msgspec.json.Decoder[Kind], frame: bytes) -> Kind:
    """Decode a frame. Raises ValueError on any frame that the decoder does not accept."""
    try:
        return decoder.decode(frame)
    except RecursionError as error:
        raise ValueError(NESTED) from error
