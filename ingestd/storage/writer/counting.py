"""What became of the rows of a flush, as metrics and log lines."""

from __future__ import annotations

import structlog

from ingestd.ops.metrics import Metrics
from ingestd.storage.writer.writer import Outcome

log = structlog.get_logger()


def count_outcome(metrics: Metrics, sink: str, outcome: Outcome, took_s: float) -> None:
    """Count a flush that is known to be committed."""
    for channel, count in outcome.stored.items():
        metrics.stored.labels(sink, channel).inc(count)
    for channel, count in outcome.duplicate.items():
        if count:
            metrics.duplicate.labels(sink, channel).inc(count)
    for bad in outcome.bad:
        metrics.rejected.labels(bad.table.channel, f"server_{bad.sqlstate}").inc()
        metrics.note_refused(bad.table.channel, 1)
    if outcome.bad:
        log.warning("rows_refused_by_server", rows=len(outcome.bad), first=outcome.bad[0].error)
    for channel, count in outcome.missing.items():
        metrics.rejected.labels(channel, "server_missing").inc(count)
        metrics.note_missing(channel, count)
        log.error("rows_not_in_table", sink=sink, channel=channel, rows=count, look_at="its triggers, rules, policies")
    metrics.flushes.labels(sink).inc()
    metrics.flush_s.labels(sink).observe(took_s)
