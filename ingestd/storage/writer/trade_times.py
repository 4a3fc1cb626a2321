"""Venues that give one trade two times: over REST and on the socket in another precision, or of another clock.

The time is part of what makes two rows of `trades` different, so of these venues a trade is known by its id and a time
near it, whichever way it came first.
"""

from __future__ import annotations

from ingestd.venues.all import FACTS

TWO_TIMES = frozenset(exchange for exchange, facts in FACTS.items() if facts.trades.two_times)
APART_US = 1_000_000
"""The two times of one trade are less than this apart, or exactly this."""
