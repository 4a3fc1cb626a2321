"""Limits of what a venue may send. Pure.

They are far above what any venue has reason to send, and far below what would stop the daemon.
"""

from __future__ import annotations

MAX_MESSAGE_BYTES = 10 * 2**20  # of one WebSocket message, whole and unpacked
MAX_REPLY_BYTES = 32 * 2**20  # of one REST reply, on the wire and unpacked; the longest list of markets has some 16 MiB
MAX_REPLY_COMMAS = 4_000_000  # and as many values: each takes far more memory than its text
MAX_REPLY_CONTAINERS = 1_000_000  # objects and lists; the longest list of markets has some 100,000
MAX_COOKIE_CHARS = 4096  # all of a session's: servers refuse requests with headers of 8 KiB
MAX_UNSENT_BYTES = 2**18  # that wait to be sent because the venue does not read; subscriptions need far less
_FREE_FRAGMENTS = 256
_BYTES_A_FRAGMENT = 256
_BUDGET_A_SECOND = 20_000
CONTROL_FRAME_COST = 20  # so 1,000 pings a second; a venue sends one every few seconds
FRAGMENT_COST = 1


def too_fragmented(fragments: int, payload_bytes: int) -> bool:
    """Whether a message comes in more than 256 frames and one more for each 256 bytes."""
    return fragments > _FREE_FRAGMENTS + payload_bytes // _BYTES_A_FRAGMENT


def holds_too_much(reply: bytes) -> bool:
    """Whether a reply has more values than its reader may make: 32 MiB of `{},{},` would take a gigabyte."""
    return reply.count(b",") > MAX_REPLY_COMMAS or reply.count(b"{") + reply.count(b"[") > MAX_REPLY_CONTAINERS


class FrameBudget:
    """What one connection may spend in a second on frames that are no whole message: control frames, fragments."""

    def __init__(self) -> None:
        self._since_s = float("-inf")
        self._spent = 0

    def is_overdrawn(self, cost: int, now_s: float) -> bool:
        """Spend `cost`; whether that was more than a second's budget."""
        self._spent += cost
        if self._spent <= _BUDGET_A_SECOND:
            return False
        if now_s - self._since_s < 1.0:
            return True
        self._since_s, self._spent = now_s, cost
        return False
