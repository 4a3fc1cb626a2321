"""The metrics as a scrape shows them."""

from __future__ import annotations

from ingestd.ops.metrics import Metrics


def exposed(metrics: Metrics) -> str:
    """The Prometheus text format, as of now."""
    metrics.capture()
    return metrics.render().decode()
