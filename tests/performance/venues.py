"""Each venue's decoder by its exchange's name, without what a feed needs besides: under callgrind an import is slow."""

from __future__ import annotations

from collections.abc import Mapping

from ingestd.lab.sim.venue_frames import VENUES
from ingestd.venues.all import facts_of
from ingestd.venues.messages import Decoder

EXCHANGES = tuple(venue.exchange for venue in VENUES if facts_of(venue.exchange).native is not None)


def decoder_of(exchange: str, symbols: Mapping[str, str]) -> Decoder:
    """Its decoder; `symbols` by market id."""
    make = facts_of(exchange).native
    assert make is not None
    return make({}).decoder(symbols, 0)
