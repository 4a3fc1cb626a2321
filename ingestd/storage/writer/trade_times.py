"""Venues that give one trade two times: over REST and on the socket in another precision, or of another clock.

The time is part of what makes two rows of `trades` different, so of these venues a trade is known by its id and a time
near it, whichever way it came first. These are the ones that were found so far.

| venue     | socket                           | REST                             |
|-----------|----------------------------------|----------------------------------|
| backpack  | `E` and `T`: microseconds        | `timestamp`: milliseconds        |
| bitstamp  | `microtimestamp`: microseconds   | `date`: seconds                  |
| coincheck | the first of the list: seconds   | `created_at`: milliseconds       |
| deepcoin  | `T`: seconds                     | `ts`: milliseconds               |
| whitebit  | `time`: seconds and microseconds | `trade_timestamp`: seconds       |

Bitstamp documents them: https://www.bitstamp.net/api/#tag/Transactions-public, https://www.bitstamp.net/websocket/v2/
Those of the others are as in the messages that the exchange library (4.5.90) shows beside its parsers.
"""

from __future__ import annotations

TWO_TIMES = frozenset({"backpack", "bitstamp", "coincheck", "deepcoin", "whitebit"})
APART_US = 1_000_000
"""The two times of one trade are less than this apart, or exactly this."""
