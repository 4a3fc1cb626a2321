"""What the task of indicators logs, and what a person is told of it: each once, until it is over."""

from __future__ import annotations

from collections import Counter

import structlog

from ingestd.errors import IngestdError
from ingestd.indicators.work import Series
from ingestd.log_limit import LogLimit
from ingestd.ops.metrics import Metrics
from ingestd.storage.indicator_rows import Value

log = structlog.get_logger()

_FAILURES = 2  # in a row that make a problem: a single one may be a lock that was held


class Complaints:
    """The failures in a row of each step, and the indicators that have too few candles."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log_limit = LogLimit()
        self._failures: Counter[str] = Counter()
        self._errors: dict[str, str] = {}
        self._warming_up: set[tuple[Series, str]] = set()

    @property
    def problem(self) -> str | None:
        """A step that fails repeatedly, as a sentence; None: none. A lost connection is reported by the sink."""
        for step, failures in self._failures.items():
            if failures >= _FAILURES and step != "connect":
                return f"Indicators are not computed ({step}, {failures} failures in a row): {self._errors[step]}"
        return None

    def failed(self, step: str, error: Exception) -> None:
        """Count a failure, and log it."""
        self._failures[step] += 1
        self._errors[step] = str(error)[:300]
        self._metrics.upkeep_failures.labels("indicators").inc()
        if self._log_limit.allows(f"{step}: {error}"):
            is_told = isinstance(error, (IngestdError, OSError, TimeoutError))
            report = log.debug if step == "connect" and is_told else log.warning
            report(
                "indicators_failed",
                step=step,
                error=self._errors[step],
                attempts=self._failures[step],
                exc_info=None if is_told else error,
            )

    def worked(self, step: str) -> None:
        """Note that a step did what was due."""
        if failures := self._failures.pop(step, 0):
            self._log_limit.clear()
            (log.debug if step == "connect" else log.info)("indicators_work_again", step=step, after_attempts=failures)

    def warming_up(self, series: Series, row: Value) -> None:
        """Log once of each indicator that there are too few candles yet."""
        if row.candles >= row.window or (series, row.name) in self._warming_up:
            return
        self._warming_up.add((series, row.name))
        exchange, symbol, _ = series
        log.info(
            "indicator_is_null",
            exchange=exchange,
            symbol=symbol,
            name=row.name,
            candles=row.candles,
            needed=row.window,
        )
