"""The contracts of sinks and of the module that builds one. `tests/contract` runs the first against every sink."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ingestd.config.models import Config
from ingestd.errors import Problem
from ingestd.journal.journal import Cursor
from ingestd.ops.metrics import Metrics
from ingestd.records import MarketRecord
from ingestd.status import SinkStatus
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.leases import Title


class Sink(Protocol):
    """What every sink is to the daemon."""

    name: str

    async def run(self) -> None:
        """Work until `finish` was called and nothing is left, or until cancelled."""

    def finish(self) -> None:
        """Nothing more will come: `run` sends or stores what is left and returns."""

    def status(self) -> SinkStatus:
        """A snapshot for health and metrics."""


class DurableSink(Sink, Protocol):
    """Stores journaled batches, each exactly once, reading the journal with its own cursor.

    MUST acknowledge a batch only after it is known to be stored.
    MUST retry unknown errors, for ever, with capped and jittered delays, and raise an alarm; never drop.
    MUST store the good rows of a batch that holds a bad one, and keep the bad one in `rejected_records`.
    MUST bound every wait on the outside world.
    """


class LiveSink(Sink, Protocol):
    """Shows what is now, before it is durable. MUST NOT delay anybody: what it cannot send it drops and counts."""

    def put_all(self, records: Sequence[MarketRecord]) -> None:
        """Take valid records, a loop turn after they came. Never blocks, never raises, costs next to nothing."""

    def order_update(self, order_id: str, fields: Mapping[str, str]) -> None:
        """Show an order that a trading program has changed."""

    def forget_orders(self) -> None:
        """Others may have changed orders since the last update."""


@dataclass(frozen=True, slots=True)
class LiveParts:
    """What a live sink is built from. `own_metrics`: figures of the daemon that it may show."""

    config: Config
    instance: str
    metrics: Metrics
    own_metrics: Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class DurableParts:
    """What a durable sink is built from. `access` is None where the daemon has no database; `title` is the lease by
    which it stores, None where it needs none."""

    config: Config
    instance: str
    metrics: Metrics
    cursor: Cursor
    journal_ids: Callable[[], list[str]]
    access: DatabaseAccess | None
    title: Title | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. `said`: empty if it did not answer. `problems`: what a daemon would lack."""

    said: str
    problems: tuple[str, ...] = ()


class Setup(Protocol):
    """What the module `setup` of each sink's folder defines, besides how the sink is built."""

    def problems(self, config: Config) -> Iterator[Problem]:
        """What is wrong with the sink's section although each option is allowed. Opens no connection."""

    def ask(self, config: Config) -> Awaitable[Answer]:
        """Ask the server once, and change nothing there. Raises IngestdError where it does not answer."""


class DurableSetup(Setup, Protocol):
    def build(self, parts: DurableParts) -> DurableSink: ...


class LiveSetup(Setup, Protocol):
    def build(self, parts: LiveParts) -> LiveSink: ...
