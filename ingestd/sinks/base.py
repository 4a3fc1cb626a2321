"""The contract between a durable sink and the journal. `tests/contract` runs it against every sink."""

from __future__ import annotations

from typing import Protocol

from ingestd.status import SinkStatus


class Sink(Protocol):
    """Something that stores journaled batches, each exactly once, reading with its own cursor.

    MUST acknowledge a batch only after it is known to be stored.
    MUST retry unknown errors, for ever, with capped and jittered delays, and raise an alarm; never drop.
    MUST store the good rows of a batch that holds a bad one, and keep the bad one in `rejected_records`.
    MUST bound every wait on the outside world.
    """

    name: str

    async def run(self) -> None:
        """Store until `finish` was called and nothing is left, or until cancelled."""

    def finish(self) -> None:
        """No more batches will be journaled: `run` returns once the journal is drained."""

    def status(self) -> SinkStatus:
        """A snapshot for health and metrics."""
