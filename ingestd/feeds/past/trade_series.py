"""Chooses the venue's REST endpoint that serves past trades under the same ids as the stream. Pure."""

from __future__ import annotations

from ingestd.venues.all import facts_of
from ingestd.venues.past import Series


def series_for(exchange: str, kind: str, stream: str | None, *, has_key: bool) -> Series:
    """The series of past trades that matches one stream. Raises Unfillable if there is none.

    `kind`: `spot`, `linear` or `inverse`. `stream`: the stream that ccxt subscribes to, where the venue offers several.
    `has_key`: an API key is configured.
    """
    past = facts_of(exchange).trades.past
    return past if isinstance(past, Series) else past(kind, stream, has_key)
