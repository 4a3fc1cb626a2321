"""Field types that several decoders share. A value that does not fit is refused during decoding."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ingestd.records import Side

Text = Annotated[str, msgspec.Meta(min_length=1)]
"""An id, a price or a size as sent; never empty."""

Milliseconds = Annotated[int, msgspec.Meta(gt=0, lt=2**53)]
"""Milliseconds since the epoch, as a JSON number, or as a text if the decoder is not `strict`."""

Level = Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
"""A row of a book: price, amount, and further fields that some venues add."""

SIDES: dict[str, Side] = {"buy": "buy", "sell": "sell", "Buy": "buy", "Sell": "sell"}
"""The taker side, by the venue's word for it."""
