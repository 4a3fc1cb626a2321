"""Limits on what a venue may send. Pure.

They are far above what any venue has reason to send, and far below what would exhaust the daemon.
"""

from __future__ import annotations

MAX_MESSAGE_BYTES = 10 * 2**20  # one WebSocket message, reassembled and decompressed
MAX_REPLY_BYTES = 32 * 2**20  # one REST reply, compressed or not; the longest list of markets has some 16 MiB
MAX_REPLY_COMMAS = 4_000_000  # limits the number of values: each takes far more memory than its text
MAX_REPLY_CONTAINERS = 1_000_000  # objects and arrays; the longest list of markets has some 100,000
MAX_COOKIE_CHARS = 4096  # all cookies of a session: servers refuse requests with headers of 8 KiB
MAX_UNSENT_BYTES = 2**18  # send buffer while the venue does not read; subscriptions need far less
_FREE_FRAGMENTS = 256
_BYTES_A_FRAGMENT = 256
_BUDGET_A_SECOND = 20_000
CONTROL_FRAME_COST = 20  # allows 1,000 pings a second; a venue sends one every few seconds
FRAGMENT_COST = 1


def too_fragmented(fragments: int, payload_bytes: int) -> bool:
    """Whether a message has more than 256 frames plus one for each 256 bytes of payload."""
    return fragments > _FREE_FRAGMENTS + payload_bytes // _BYTES_A_FRAGMENT


def holds_too_much(reply: bytes) -> bool:
    """Whether parsing a reply would take too much memory: 32 MiB of `{},{},` would take a gigabyte."""
    return reply.count(b",") > MAX_REPLY_COMMAS or reply.count(b"{") + reply.count(b"[") > MAX_REPLY_CONTAINERS


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
