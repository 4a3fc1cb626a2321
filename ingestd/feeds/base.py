"""The contract between a feed and the rest of the daemon. `tests/contract` runs it against every feed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ingestd.records import FeedGap, MarketRecord
from ingestd.status import FeedStatus, MarketInfo


class Intake(Protocol):
    """Where a feed hands its records over."""

    def put(self, record: MarketRecord | FeedGap) -> None:
        """Take one record, in the same loop turn. Never blocks, never raises; order is kept."""

    @property
    def is_blocked(self) -> bool:
        """Whether `writable` would wait: then no socket is to be read."""

    async def writable(self) -> None:
        """Return once there is room again. A feed awaits this before each socket read (not before each record)."""


class Feed(Protocol):
    """One exchange connection (or several) that turns what the venue sends into records.

    MUST hand over every update, in arrival order, in the loop turn in which the socket delivered it.
    MUST NOT let one bad symbol or one malformed frame touch another stream.
    MUST reconnect for ever, with capped and jittered delays, and open a `FeedGap` for what it may have missed.
    MUST return from `run` soon after `close` was called, with no task left behind.
    """

    async def run(self, intake: Intake) -> None:
        """Deliver until closed. Raises only what no reconnect can cure (`ConfigError`, a bug)."""

    async def close(self) -> None:
        """Stop reading, close the sockets; returns when nothing more will be handed over."""

    def status(self) -> FeedStatus:
        """A snapshot for health and metrics."""

    def markets(self) -> Sequence[MarketInfo]:
        """Every market of the venue; empty until they are loaded."""

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """Follow these names or globs from now on (a reload); what stays is not interrupted."""
