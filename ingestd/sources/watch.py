"""Is the broker there? A member that holds what it has read, or has nothing to read, would not notice otherwise.

Asked every few seconds beside the reading, with a time limit: so the lag is true while the database is away, and a
broker that is dead, frozen or empty is told of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import structlog

from ingestd.errors import KafkaError
from ingestd.kafka.messages import Consumer, Part
from ingestd.log_limit import LogLimit
from ingestd.ops.metrics import Metrics

log = structlog.get_logger()

_ASK_EVERY_S = 3.0


class BrokerWatch:
    """What the broker last answered. `problem` is None while all is well, else a sentence for people."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        self.answers = True
        self.problem: str | None = None
        self.ends: dict[Part, int] = {}
        self._name = name
        self._metrics = metrics
        self._failures = 0  # in a row
        self._log_limit = LogLimit()
        self._asking: asyncio.Task[None] | None = None

    def begin(self, consumer: Consumer, parts: Callable[[], Collection[Part]]) -> None:
        """Ask this consumer until `end`. `parts` are those whose ends are wanted."""
        self._failures = 0
        self._asking = asyncio.create_task(self._ask(consumer, parts), name=f"watch-{self._name}")

    async def end(self) -> None:
        """Ask no more; nothing is known of the broker then."""
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
            except Exception as error:  # noqa: BLE001 # asked again, and told: the reading goes on
                self._note(error)
            else:
                self._note_answer(sorted(missing))

    def _note(self, error: Exception) -> None:
        self.answers, self.problem = False, str(error) or type(error).__name__
        kind = error.name if isinstance(error, KafkaError) else type(error).__name__
        self._metrics.sink_errors.labels(self._name, kind).inc()
        self._report("source_broker_silent", self.problem)

    def _note_answer(self, missing: list[str]) -> None:
        if missing:
            self.answers = True
            self.problem = f"these topics do not exist: {', '.join(missing)}; create them, or set kafka.create_topics"
            self._report("source_topics_missing", self.problem)
            return
        if self._failures:
            log.info("source_broker_answers_again", source=self._name, after_attempts=self._failures)
            self._log_limit.clear()
        self.answers, self.problem, self._failures = True, None, 0

    def _report(self, event: str, problem: str) -> None:
        self._failures += 1
        if self._log_limit.allows(f"{event} {problem}"):
            log.warning(event, source=self._name, error=problem, attempts=self._failures, retry_in_s=_ASK_EVERY_S)
