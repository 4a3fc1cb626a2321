"""Limits on what a venue may send. Pure.

They are far above what any venue has reason to send, and far below what would exhaust the daemon.
"""

from __future__ import annotations

MAX_MESSAGE_BYTES = 10 * 2**20  # one WebSocket message, reassembled and decompressed
MAX_REPLY_BYTES = 32 * 2**20  # one REST reply, compressed or not; the longest list of markets has some 16 MiB
_CHECKED_BYTES = 2**16  # a shorter text is not counted
# Each value of a reply or message takes far more memory than its text, and time of the event loop. The longest list of
# markets, Binance's spot one, is estimated at 900,000 commas (two thirds of them between permissions), 300,000 colons,
# 60,000 containers and 50,000 fractions, nearly all in quotes: 16 MiB, 3,500 markets. Lists of 5,000 options are put at
# 50,000 fractions. None of this is counted on a recorded list. The limits are two to five times as high.
MAX_COMMAS = 1_800_000
MAX_COLONS = 900_000
MAX_CONTAINERS = 300_000  # objects and arrays
MAX_FRACTIONS = 200_000  # an `ExactFloat` keeps its text: about 120 bytes and a microsecond each
MAX_MESSAGE_COMMAS = 600_000  # estimate: whole order books of 60,000 levels, up to four values each
MAX_MESSAGE_FRACTIONS = 300_000  # of those levels two values each, in quotes
MAX_COOKIE_CHARS = 4096  # all cookies of a session: servers refuse requests with headers of 8 KiB
MAX_UNSENT_BYTES = 2**18  # send buffer while the venue does not read; subscriptions need far less
_FRACTION_MARKS = bytes.maketrans(b"123456789.E", b"000000000ee")  # `1.5` and `1E5` become `0e0`
_FREE_FRAGMENTS = 256
_BYTES_A_FRAGMENT = 256
_BUDGET_A_SECOND = 20_000
CONTROL_FRAME_COST = 20  # allows 1,000 pings a second; a venue sends one every few seconds
FRAGMENT_COST = 1


def too_fragmented(fragments: int, payload_bytes: int) -> bool:
    """Whether a message has more than 256 frames plus one for each 256 bytes of payload."""
    return fragments > _FREE_FRAGMENTS + payload_bytes // _BYTES_A_FRAGMENT


def holds_too_much(reply: bytes) -> bool:
    """Whether parsing a REST reply would take too much memory or time: 32 MiB of `{},{},` would take a gigabyte."""
    return _exceeds(reply, MAX_COMMAS, MAX_FRACTIONS)


def message_holds_too_much(message: str) -> bool:
    """Whether parsing a WebSocket message would take too much memory or time. Costs nothing for one of usual length."""
    return len(message) > _CHECKED_BYTES and _exceeds(
        message.encode(errors="replace"), MAX_MESSAGE_COMMAS, MAX_MESSAGE_FRACTIONS
    )


def _exceeds(text: bytes, commas: int, fractions: int) -> bool:
    return len(text) > _CHECKED_BYTES and (
        text.count(b",") > commas
        or text.count(b":") > MAX_COLONS
        or text.count(b"{") + text.count(b"[") > MAX_CONTAINERS
        or text.translate(_FRACTION_MARKS).count(b"0e") > fractions
    )


class FrameBudget:
    """Limits control frames and message fragments: each has a cost, and a connection has a budget per second."""

    def __init__(self) -> None:
        self._since_s = float("-inf")
        self._spent = 0

    def is_overdrawn(self, cost: int, now_s: float) -> bool:
        """Spend `cost`. Return whether this exceeds the budget of the current second."""
        self._spent += cost
        if self._spent <= _BUDGET_A_SECOND:
            return False
        if now_s - self._since_s < 1.0:
            return True
        self._since_s, self._spent = now_s, cost
        return False
