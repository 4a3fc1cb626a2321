"""The target figures, and whether a run reached them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ingestd.lab.bench.figures import Figures

Verdict = Literal["met", "short", "not measured"]

FLUSH_MS = 250


@dataclass(frozen=True, slots=True)
class Target:
    """One target figure. `text` begins with a sign, the bound and the unit, if the benchmark measures it.

    `over` and `under` are keys of figures: the value of `over` is judged, divided by that of `under` if one is named.
    """

    what: str
    text: str
    over: str
    under: str = ""
    elsewhere: str = ""  # where it is measured, if not by the benchmark

    def measure(self, figures: Figures) -> float | None:
        """The value of this run; None: not measured."""
        over, under = figures.value(self.over), figures.value(self.under) if self.under else 1.0
        return None if over is None or not under else over / under


@dataclass(frozen=True, slots=True)
class Judged:
    """A target figure, its value in a run, and the verdict."""

    what: str
    target: str
    measured: str
    verdict: Verdict


_COMMITTED = "wire → committed rows in `trades` (native, unique index, exact decimals)"
_PEER = "the same, against the peer's Postgres backend on the same frames"
_OUTAGE = "memory growth while the database is down, at 5k events/s"
_SUBSCRIBER = "wire → Redis subscriber at 10k events/s, p99"
_GROWTH = ("growth.us_2000_symbols_1", "growth.us_10_symbols_1")

TARGETS: tuple[Target, ...] = (
    Target(_COMMITTED, "≥ 0.9 × psql \\copy", "wire.native", "wire.psql"),
    Target(_PEER, "≥ 4 × cryptofeed", "wire.native", "peer.postgres"),
    Target("the same with Redis and Kafka on", "≥ 0.6 ×", "wire.all_sinks", "wire.native"),
    Target("native decode, socket included", "≥ 10 × ccxt feed", "feed.native", "feed.ccxt"),
    Target(_SUBSCRIBER, "≤ 5 ms", "latency.subscriber_p99_at_10000"),
    Target("wire → committed at 20k events/s, p99", f"≤ {FLUSH_MS + 100} ms", "latency.committed_p99_at_20000"),
    Target(_OUTAGE, "≤ 64 MiB", "outage.growth"),
    Target("catch-up after the outage, live going on", "≥ 3 × live", "outage.catch_up", "outage.live"),
    Target("kills: process, backend, postmaster, stop/cont", "0 lost, 0 double", "", elsewhere="`make kills`, in CI"),
    Target("start to first committed row", "≤ 3 s", "start.first_row"),
    Target("cost per event, 2,000 symbols against 10", "≤ 1.25 ×", *_GROWTH),
)


def judge(figures: Figures) -> list[Judged]:
    """Judge every target figure. A value exactly on the bound meets it."""
    judged = []
    for target in TARGETS:
        value = target.measure(figures)
        if value is None:
            judged.append(Judged(target.what, target.text, target.elsewhere or "–", "not measured"))
            continue
        sign, bound, unit, *_ = target.text.split()
        met = value >= float(bound) if sign == "≥" else value <= float(bound)
        shown = f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
        measured = f"{shown}{unit if unit == '×' else ' ' + unit}"
        judged.append(Judged(target.what, target.text, measured, "met" if met else "short"))
    return judged
