"""The target figures, and whether a run reached them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ingestd.lab.bench.figures import Figures

Verdict = Literal["met", "short", "not measured"]


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the table. `measure` takes its value from the run; None: not measured in this run."""

    what: str
    text: str
    measure: Callable[[Figures], float | None]
    bound: float
    at_least: bool
    unit: str = ""
    elsewhere: str = ""  # where it is measured, if not by the benchmark


@dataclass(frozen=True, slots=True)
class Judged:
    """A line of the table with its measured value."""

    what: str
    target: str
    measured: str
    verdict: Verdict


def _quotient(over: str, under: str) -> Callable[[Figures], float | None]:
    def measure(figures: Figures) -> float | None:
        first, second = figures.value(over), figures.value(under)
        return None if first is None or not second else first / second

    return measure


def _value(key: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.value(key)


FLUSH_MS = 250
_COMMITTED = "wire → committed rows in `trades` (native, unique index, exact decimals)"

TARGETS: tuple[Target, ...] = (
    Target(_COMMITTED, "≥ 0.9 × psql \\copy", _quotient("wire.native", "wire.psql"), 0.9, True, "×"),
    Target(
        "the same, against the peer's Postgres backend on the same frames",
        "≥ 4 × cryptofeed",
        _quotient("wire.native", "peer.postgres"),
        4.0,
        True,
        "×",
    ),
    Target("the same with Redis and Kafka on", "≥ 0.6 ×", _quotient("wire.all_sinks", "wire.native"), 0.6, True, "×"),
    Target(
        "native decode, socket included", "≥ 10 × ccxt feed", _quotient("feed.native", "feed.ccxt"), 10.0, True, "×"
    ),
    Target(
        "wire → Redis subscriber at 10k events/s, p99",
        "≤ 5 ms",
        _value("latency.subscriber_p99_at_10000"),
        5.0,
        False,
        " ms",
    ),
    Target(
        "wire → committed at 20k events/s, p99",
        f"≤ {FLUSH_MS + 100} ms",
        _value("latency.committed_p99_at_20000"),
        FLUSH_MS + 100.0,
        False,
        " ms",
    ),
    Target(
        "memory growth while the database is down, at 5k events/s",
        "≤ 64 MiB",
        _value("outage.growth"),
        64.0,
        False,
        " MiB",
    ),
    Target(
        "catch-up after the outage, live going on",
        "≥ 3 × live",
        _quotient("outage.catch_up", "outage.live"),
        3.0,
        True,
        "×",
    ),
    Target(
        "kills: process, backend, postmaster, stop/cont",
        "0 lost, 0 double",
        lambda _: None,
        0.0,
        False,
        elsewhere="`make kills`, in CI",
    ),
    Target("start to first committed row", "≤ 3 s", _value("start.first_row"), 3.0, False, " s"),
    Target(
        "cost per event, 2,000 symbols against 10",
        "≤ 1.25 ×",
        _quotient("growth.us_2000_symbols_1", "growth.us_10_symbols_1"),
        1.25,
        False,
        "×",
    ),
)


def judge(figures: Figures) -> list[Judged]:
    """Judge every line of the table. A value exactly on the bound meets it."""
    judged = []
    for target in TARGETS:
        value = target.measure(figures)
        if value is None:
            judged.append(Judged(target.what, target.text, target.elsewhere or "–", "not measured"))
            continue
        met = value >= target.bound if target.at_least else value <= target.bound
        judged.append(Judged(target.what, target.text, f"{_short(value)}{target.unit}", "met" if met else "short"))
    return judged


def _short(value: float) -> str:
    return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
