"""Decides by the number of open records when feeds must pause and which records are dropped."""

from __future__ import annotations

import asyncio

from ingestd.config.models import IntakeConfig
from ingestd.intake.set_aside import SetAside
from ingestd.records import MEMORY_BYTES, MarketRecord

# Records that sockets may still deliver after a pause, from buffers of the kernel and the client library.
_OVERSHOOT_RECORDS = 50_000


class Overload:
    """Pauses the feeds, and sets records aside, when many records are open.

    The more records or bytes are open, the more is done:

        low    a quarter of `high`: the feeds resume, and what was set aside comes back; not at once below `high`, or
               the feeds would pause and resume all the time
        calm   half of `high`: from here on, records of channels that the configuration gives up (`intake.when_full`)
               are set aside, so that the others need not pause
        high   `intake.max_open_records` or `max_open_bytes`: the feeds pause, which means that no socket is read
        full   every further record is dropped: a feed that does not pause must not fill the memory
    """

    def __init__(self, config: IntakeConfig) -> None:
        self._high_records = config.max_open_records
        self._high_bytes = config.max_open_bytes
        self._calm_records = config.max_open_records // 2
        self._calm_bytes = config.max_open_bytes // 2
        self._full_records = config.max_open_records + _OVERSHOOT_RECORDS
        self._set_aside = SetAside(config.when_full.model_dump(), config.max_batch_records)
        self._is_setting_aside = False
        self._not_paused = asyncio.Event()
        self._not_paused.set()

    @property
    def is_paused(self) -> bool:
        """Whether the feeds must not read their sockets."""
        return not self._not_paused.is_set()

    async def resumed(self) -> None:
        """Return once the feeds may read their sockets."""
        await self._not_paused.wait()

    def calm_below(self, book_bytes: int) -> int:
        """The number of open records, given these bytes of order books, below which a record needs no checks."""
        if self._is_setting_aside:
            return 0
        return min(self._calm_records, (self._calm_bytes - book_bytes) // MEMORY_BYTES)

    def is_full(self, open_records: int, open_bytes: int) -> bool:
        """Whether a further record is dropped."""
        return open_records >= self._full_records or open_bytes >= 2 * self._high_bytes

    def sets_aside(self, record: MarketRecord, open_records: int, open_bytes: int) -> bool:
        """Whether to set the record aside instead of holding it. Later records of its stream must not overtake it."""
        is_calm = open_records < self._calm_records and open_bytes < self._calm_bytes
        return (self._is_setting_aside or not is_calm) and self._set_aside.may_take(record)

    def set_aside(self, record: MarketRecord) -> MarketRecord | None:
        """Set the record aside; returns the record dropped for it."""
        self._is_setting_aside = True
        return self._set_aside.put(record)

    def records_set_aside(self) -> list[MarketRecord]:
        """The records that are set aside and neither held nor given up yet."""
        return self._set_aside.records()

    def take_back(self) -> list[MarketRecord]:
        """Return the records set aside, which must be held now."""
        return self._set_aside.take_back()

    def maybe_pause(self, open_records: int, open_bytes: int) -> None:
        """Pause the feeds if `high` is reached."""
        if open_records >= self._high_records or open_bytes >= self._high_bytes:
            self._not_paused.clear()

    def maybe_resume(self, open_records: int, open_bytes: int) -> list[MarketRecord]:
        """Resume the feeds if less than `low` is open; returns the records that were set aside, to be held now."""
        if open_records >= max(1, self._high_records // 4) or open_bytes >= self._high_bytes // 4:
            return []
        self._not_paused.set()
        self._is_setting_aside = False
        return self._set_aside.take_back()

    def close(self) -> None:
        """From now on every record is dropped."""
        self._full_records = self._calm_records = 0
