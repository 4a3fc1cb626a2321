"""Which endpoint of a venue serves past trades under the ids its stream speaks. Pure."""

from __future__ import annotations

from ingestd.venues.all import facts_of
from ingestd.venues.past import Series


def series_for(exchange: str, kind: str, stream: str | None, *, has_key: bool) -> Series:
    """The series of one stream. Raises Unfillable where none serves it.

    `kind` is `spot`, `linear` or `inverse`; `stream` what ccxt subscribes to on this venue, where it has a choice;
    `has_key`: an API key is configured.
    """
    past = facts_of(exchange).trades.past
    return past if isinstance(past, Series) else past(kind, stream, has_key)
