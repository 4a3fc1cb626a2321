"""The contracts of sinks and of each sink's `setup` module, and how sinks are built from the configuration.

`tests/contract` runs the contract of sinks on every sink.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from ingestd.config.models import Config
from ingestd.errors import Problem
from ingestd.journal.journal import Cursor
from ingestd.ops.metrics import Metrics
from ingestd.records import MarketRecord
from ingestd.sinks.table import SINKS, SinkKind, configured
from ingestd.status import SinkStatus
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.leases import Title
from ingestd.venues.market_names import KnownMarkets


class Sink(Protocol):
    """A sink as the daemon sees it."""

    name: str

    async def run(self) -> None:
        """Work until `finish` was called and nothing is pending, or until cancelled."""

    def finish(self) -> None:
        """Announce that nothing more will come: `run` sends or stores what is pending and returns."""

    def status(self) -> SinkStatus:
        """A snapshot for health and metrics."""


class DurableSink(Sink, Protocol):
    """Stores journaled batches, each exactly once, reading the journal with its own cursor.

    MUST acknowledge a batch only after it is known to be stored. MUST retry unknown errors for ever, with capped and
    jittered delays, and raise an alarm; never drop. MUST store the good rows of a batch that holds a bad one, and keep
    the bad one in `rejected_records`. MUST limit every wait on the outside world.
    """


class OrderCache(Protocol):
    """Shows orders that trading programs have changed."""

    def order_update(self, order_id: str, fields: Mapping[str, str], market: tuple[str, str] | None = None) -> None:
        """Publish a changed order; `fields` are those of the key `order:{order_id}`. If its market (exchange, unified
        symbol) is known, the field `symbol` becomes the market's name in the cache's style."""

    def forget_orders(self) -> None:
        """Forget known orders, because other daemons may have changed them since."""


class IndicatorCache(Protocol):
    """Shows the newest values of technical indicators."""

    def indicator_update(self, exchange: str, symbol: str, name: str, value: str, time_us: int) -> None:
        """Publish a value; `time_us` is when its candle opened."""


class LiveSink(Sink, OrderCache, IndicatorCache, Protocol):
    """Publishes records before they are durable. MUST NOT delay callers: it drops and counts what it cannot send."""

    def put_all(self, records: Sequence[MarketRecord]) -> None:
        """Take valid records, one loop turn after they arrived. Never blocks, never raises, costs next to nothing."""


@dataclass(frozen=True, slots=True)
class LiveParts:
    """The parts that a live sink is built from. `known`: the markets whose names the daemon knows. `own_metrics`
    returns metrics of the daemon that it may publish."""

    config: Config
    instance: str
    metrics: Metrics
    known: KnownMarkets
    own_metrics: Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class DurableParts:
    """The parts that a durable sink is built from. `access` is None where the daemon has no database. `title` is the
    lease under which the sink stores, None where it needs none."""

    config: Config
    instance: str
    metrics: Metrics
    known: KnownMarkets
    cursor: Cursor
    journal_ids: Callable[[], list[str]]
    access: DatabaseAccess | None
    title: Title | None


@dataclass(frozen=True, slots=True)
class ReportParts:
    """The parts that reports are built from. `access` is None where the daemon has no database. `holds`: whether a
    market (exchange, unified symbol) is this daemon's. `own_metrics` as in `LiveParts`."""

    config: Config
    instance: str
    metrics: Metrics
    known: KnownMarkets
    access: DatabaseAccess | None
    holds: Callable[[str, str], bool]
    own_metrics: Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer. `said` is empty if it did not answer. `problems` lists what a daemon would lack."""

    said: str
    problems: tuple[str, ...] = ()


class Setup(Protocol):
    """What each sink's `setup` module defines, besides `build(parts)`, which makes the sink of its parts."""

    def problems(self, config: Config) -> Iterator[Problem]:
        """Report what is wrong with the sink's section although each option is valid. Opens no connection."""

    def ask(self, config: Config) -> Awaitable[Answer]:
        """Ask the server once, and change nothing there. Raises IngestdError if it does not answer."""


def setup_of(kind: SinkKind) -> Setup:
    """The `setup` module of this sink."""
    return cast(Setup, kind.setup())


def durable_kinds(config: Config) -> list[str]:
    """The names of the durable sinks that this daemon runs."""
    return [name for name, kind in _running(config).items() if not kind.is_live]


def build_durable(name: str, parts: DurableParts) -> DurableSink:
    """Build the sink of this name."""
    return cast(DurableSink, SINKS[name].setup().build(parts))


def build_live(parts: LiveParts) -> list[LiveSink]:
    """Build every live sink that this daemon runs."""
    return [kind.setup().build(parts) for kind in _running(parts.config).values() if kind.is_live]


def build_reports(parts: ReportParts) -> list[Sink]:
    """Build what sends to the servers of sinks what is in no journal."""
    kinds = configured(parts.config).values()
    return [report for kind in kinds if kind.has_reports for report in kind.setup().reports(parts)]


def sends_indicators(config: Config) -> bool:
    """Whether a report of this daemon sends the indicators that it computes, by the option `indicators` of a sink."""
    sections = [config.section(kind.options) for kind in configured(config).values() if kind.has_reports]
    return bool(config.indicators.rules) and any(getattr(section, "indicators", False) for section in sections)


def show_indicators(caches: Sequence[IndicatorCache]) -> Callable[[str, str, str, str, int], None]:
    """A function that publishes a value of an indicator in each of these caches."""

    def show(exchange: str, symbol: str, name: str, value: str, time_us: int) -> None:
        for cache in caches:
            cache.indicator_update(exchange, symbol, name, value, time_us)

    return show


def _running(config: Config) -> dict[str, SinkKind]:
    return {name: kind for name, kind in configured(config).items() if config.instance.role in kind.roles}
