"""Says what became of every record, by durable sink: the terms of the conservation law (see `metrics.py`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

from ingestd.ops.metrics import Metrics
from ingestd.sinks.table import SINKS

_BEFORE = ("received", "journaled", "dropped", "released")
_OF_A_SINK = ("recovered", "stored", "duplicate", "left_out", "rejected", "in_journal")


class Ledger(Protocol):
    """What a cursor of the journal counts: records by channel."""

    @property
    def pending(self) -> Mapping[str, int]: ...
    @property
    def recovered(self) -> Mapping[str, int]: ...


def account(
    metrics: Metrics, cursors: Mapping[str, Ledger], held: Mapping[str, Mapping[str, int]] | None = None
) -> dict[str, Any]:
    """Return every term by channel, and under `sinks` those of each sink.

    `held`: what each topic reader has read and not stored, by channel. Outside `sinks` the terms of sinks are those of
    the database sink, or of the only sink where there is no database, plus those of every topic reader.
    """
    held = held or {}
    first = [name for name in SINKS if name in cursors][:1]
    return {
        **{term: metrics.totals(getattr(metrics, term)) for term in _BEFORE},
        **_terms(metrics, {*held, *first}, cursors, held),
        "sinks": {name: _terms(metrics, {name}, cursors, {}) for name in cursors},
    }


def without_zeros(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Shorten the result of `account` for a log line: leave out zeros, and `sinks` if there is only one."""
    told: dict[str, Any] = {}
    for term, by_channel in counts.items():
        if term != "sinks" and any(by_channel.values()):
            told[term] = {channel: count for channel, count in by_channel.items() if count}
    if len(sinks := counts.get("sinks", {})) > 1:
        told["sinks"] = {name: without_zeros(account) for name, account in sinks.items()}
    return told


def with_zeros(told: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a result of `without_zeros` the terms that it left out, empty."""
    sinks = {
        name: {term: account.get(term, {}) for term in _OF_A_SINK} for name, account in told.get("sinks", {}).items()
    }
    return {**{term: told.get(term, {}) for term in (*_BEFORE, *_OF_A_SINK)}, "sinks": sinks}


def _terms(
    metrics: Metrics, names: Collection[str], cursors: Mapping[str, Ledger], held: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    chosen = [cursor for name, cursor in cursors.items() if name in names]
    # Rejections by another sink have reasons that begin like this. Those of no sink happened before the journal.
    others = tuple(
        kind.rejections for name, kind in SINKS.items() if name in cursors and kind.rejections and name not in names
    )

    def mine(labels: Mapping[str, str]) -> bool:
        return labels["sink"] in names

    return {
        "recovered": _sum(cursor.recovered for cursor in chosen),
        "stored": metrics.totals(metrics.stored, keep=mine),
        "duplicate": metrics.totals(metrics.duplicate, keep=mine),
        "left_out": metrics.totals(metrics.left_out, keep=mine),
        "rejected": metrics.totals(metrics.rejected, keep=lambda labels: not labels["reason"].startswith(others)),
        "in_journal": _sum([*(cursor.pending for cursor in chosen), *held.values()]),
    }


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums by channel, without zeros."""
    return dict(sum(map(Counter, counts), Counter[str]()))
