"""The conservation law's terms, for each durable sink: every sink must account for every record by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.ops.metrics import Metrics

# The rejections that are a sink's own, by how their reason begins; the others happened before the journal.
_REASONS_OF = {"timescale": "server_", "kafka": "kafka_"}

# Whose account stands for the daemon's where there are several sinks.
_FIRST = ("timescale", "kafka")


def account(metrics: Metrics, pending: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """By term and channel, with every sink's own terms under `sinks`; `pending` is what each has yet to store.

    The terms outside `sinks` are those of the database's sink where there is one, else of the only sink.
    """
    sinks = {name: _sink_account(metrics, name, left) for name, left in pending.items()}
    first = next((name for name in _FIRST if name in sinks), None)
    chosen = sinks[first] if first is not None else _sink_account(metrics, "", {})
    return {
        "received": metrics.totals(metrics.received),
        "journaled": metrics.totals(metrics.journaled),
        "dropped": metrics.totals(metrics.dropped),
        **chosen,
        "sinks": sinks,
    }


def _sink_account(metrics: Metrics, sink: str, pending: Mapping[str, int]) -> dict[str, dict[str, int]]:
    others = tuple(prefix for name, prefix in _REASONS_OF.items() if name != sink)

    def mine(labels: Mapping[str, str]) -> bool:
        return labels["sink"] == sink

    return {
        "recovered": metrics.totals(metrics.recovered, keep=mine),
        "stored": metrics.totals(metrics.stored, keep=mine),
        "duplicate": metrics.totals(metrics.duplicate, keep=mine),
        "rejected": metrics.totals(metrics.rejected, keep=lambda labels: not labels["reason"].startswith(others)),
        "in_journal": {channel: count for channel, count in pending.items() if count},
    }
