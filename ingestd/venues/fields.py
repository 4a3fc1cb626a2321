"""Types of the fields that venues share: what is not of them is refused while it is read."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ingestd.records import Side

Text = Annotated[str, msgspec.Meta(min_length=1)]
"""An id, a price or a size as sent; never empty."""

Milliseconds = Annotated[int, msgspec.Meta(gt=0, lt=2**53)]
"""Since the epoch, as a JSON number; as a text where the decoder is not `strict`."""

Level = Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
"""A book's row: price, amount, and whatever else the venue adds."""

SIDES: dict[str, Side] = {"buy": "buy", "sell": "sell", "Buy": "buy", "Sell": "sell"}
"""The taker's side by the venue's word for it."""
