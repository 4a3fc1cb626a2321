"""The simulator's frames of several venues, and what stands in them."""

from __future__ import annotations

import re

from ingestd.sim.venue_frames import BURST, VENUES, Venue, numbered

__all__ = ["BURST", "VENUES", "Venue", "numbered", "text_of"]


def text_of(frame: str, key: str) -> str:
    """The value of a key as it stands in the frame: without quotes, never through a float."""
    match = re.search(rf'"{key}":"?([0-9.eE+-]+)"?', frame)
    assert match is not None
    return match.group(1)
