"""The contract between a feed and the rest of the daemon. `tests/contract` runs it against every feed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestd.records import FeedGap, MarketRecord
from ingestd.status import FeedStatus, MarketInfo


class Intake(Protocol):
    """Takes the records of a feed."""

    def put(self, record: MarketRecord | FeedGap) -> None:
        """Take one record, in the same loop turn. Never blocks, never raises, keeps the order."""

    @property
    def is_blocked(self) -> bool:
        """Whether `writable` would wait; while it would, a feed must not read its sockets."""

    async def writable(self) -> None:
        """Wait until the intake has room. A feed awaits this before each socket read (not before each record)."""


class Feed(Protocol):
    """One or more connections to an exchange, whose messages the feed turns into records.

    MUST hand over every update, in arrival order, in the loop turn in which the socket delivered it.
    MUST NOT let one bad symbol or one malformed frame disturb another stream.
    MUST reconnect for ever, with capped and jittered delays, and open a `FeedGap` for what it may have missed.
    MUST return from `run` soon after `close` was called, and leave no task running.
    """

    async def run(self, intake: Intake) -> None:
        """Deliver records until `close`. Raises only errors that a reconnect cannot cure (`ConfigError`, a bug)."""

    async def close(self) -> None:
        """Stop reading and close the sockets. Once this returns, no further record reaches the intake."""

    def status(self) -> FeedStatus:
        """The feed's current status, for health and metrics."""

    def markets(self) -> Sequence[MarketInfo]:
        """All markets of the venue; empty until they are loaded."""

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """Replace the followed names and patterns (a reload). Symbols that stay are not interrupted."""
