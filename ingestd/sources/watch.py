"""Asks the broker every few seconds, with a time limit, whether it answers and for the end offsets of partitions.

A member that has nothing to read, or waits for the database, would not notice that the broker is gone. The lag stays
correct while nothing is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import structlog

from ingestd.kafka.messages import Consumer, Part
from ingestd.log_limit import LogLimit
from ingestd.ops.metrics import Metrics
from ingestd.sinks.retry import kind_of

log = structlog.get_logger()

_ASK_EVERY_S = 3.0


class BrokerWatch:
    """The broker's last answer. `problem` is a sentence for people, None if there is no problem."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        self.answers = True
        self.problem: str | None = None
        self.ends: dict[Part, int] = {}
        self._name = name
        self._metrics = metrics
        self._failures = 0  # consecutive
        self._log_limit = LogLimit()
        self._asking: asyncio.Task[None] | None = None

    def begin(self, consumer: Consumer, parts: Callable[[], Collection[Part]]) -> None:
        """Ask this consumer for the end offsets of these partitions until `end` is called."""
        self._failures = 0
        self._asking = asyncio.create_task(self._ask(consumer, parts), name=f"watch-{self._name}")

    async def end(self) -> None:
        """Stop asking, and forget the broker's answers."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.wait({asking})
        self.answers, self.problem = True, None
        self.ends.clear()

    async def _ask(self, consumer: Consumer, parts: Callable[[], Collection[Part]]) -> None:
        while True:
            await asyncio.sleep(_ASK_EVERY_S)
            try:
                missing = await consumer.missing_topics()
                self.ends = dict(await consumer.ends([part for part in parts() if part[0] not in missing]))
            except Exception as error:  # noqa: BLE001 # it is asked again and reported; reading continues
                self._metrics.sink_errors.labels(self._name, kind_of(error)).inc()
                self.answers = False
                self._report("source_broker_silent", str(error) or type(error).__name__)
            else:
                self.answers = True
                if missing:
                    names = ", ".join(sorted(missing))
                    problem = f"these topics do not exist: {names}; create them, or set kafka.create_topics"
                    self._report("source_topics_missing", problem)
                else:
                    self._recovered()

    def _report(self, event: str, problem: str) -> None:
        self.problem = problem
        self._failures += 1
        if self._log_limit.allows(f"{event} {problem}"):
            log.warning(event, source=self._name, error=problem, attempts=self._failures, retry_in_s=_ASK_EVERY_S)

    def _recovered(self) -> None:
        if self._failures:
            log.info("source_broker_answers_again", source=self._name, after_attempts=self._failures)
            self._log_limit.clear()
        self.problem, self._failures = None, 0
