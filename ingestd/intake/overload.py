"""Decides by the number of open records when feeds must pause and which records are set aside or dropped."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

from ingestd.channels import channel_of, stream_of
from ingestd.config.models import IntakeConfig
from ingestd.records import MEMORY_BYTES, MarketRecord, StreamId

# Records that sockets may still deliver after a pause, from buffers of the kernel and the client library.
_OVERSHOOT_RECORDS = 50_000


class Overload:
    """Pauses the feeds, and sets records aside, when many records are open.

    The more records or bytes are open, the more is done:

        low    a quarter of `high`: the feeds resume, and the records set aside come back. It is far below `high`, so
               that the feeds do not pause and resume all the time
        calm   half of `high`: from here on, records of channels that the configuration gives up (`intake.when_full`)
               are set aside, so that the other channels need not pause
        high   `intake.max_open_records` or `max_open_bytes`: the feeds pause, so no socket is read
        full   50,000 records more than `high`, or twice its bytes: further records are dropped, so that a feed that
               does not pause cannot fill the memory

    Few records are kept aside, in order per stream. With the policy `drop_oldest` they are the newest
    `max_batch_records` of the channel, with `conflate` the newest one of each stream.
    """

    def __init__(self, config: IntakeConfig) -> None:
        self._high_records = config.max_open_records
        self._high_bytes = config.max_open_bytes
        self._calm_records = config.max_open_records // 2
        self._calm_bytes = config.max_open_bytes // 2
        self._full_records = config.max_open_records + _OVERSHOOT_RECORDS
        self._policies = {
            channel: policy for channel, policy in config.when_full.model_dump().items() if policy != "block"
        }
        self._most_aside = config.max_batch_records
        self._is_setting_aside = False
        self._newest: dict[StreamId, MarketRecord] = {}  # set aside by `conflate`
        self._recent: defaultdict[str, deque[MarketRecord]] = defaultdict(deque)  # set aside by `drop_oldest`
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
        """Whether to set the record aside. Once one is set aside, so are later ones, because none may overtake it."""
        is_calm = open_records < self._calm_records and open_bytes < self._calm_bytes
        return (self._is_setting_aside or not is_calm) and channel_of(record) in self._policies

    def set_aside(self, record: MarketRecord) -> MarketRecord | None:
        """Set the record aside. Returns the record that is dropped for it, if any."""
        self._is_setting_aside = True
        channel = channel_of(record)
        if self._policies[channel] == "conflate":
            stream = stream_of(record)
            replaced = self._newest.pop(stream, None)
            self._newest[stream] = record
            return replaced
        recent = self._recent[channel]
        recent.append(record)
        return recent.popleft() if len(recent) > self._most_aside else None

    def records_set_aside(self) -> list[MarketRecord]:
        """The records set aside now, each stream in order."""
        return [*self._newest.values(), *(record for recent in self._recent.values() for record in recent)]

    def take_back(self) -> list[MarketRecord]:
        """Return the records set aside; the caller holds them from now on."""
        aside = self.records_set_aside()
        self._newest.clear()
        self._recent.clear()
        return aside

    def maybe_pause(self, open_records: int, open_bytes: int) -> None:
        """Pause the feeds if `high` is reached."""
        if open_records >= self._high_records or open_bytes >= self._high_bytes:
            self._not_paused.clear()

    def maybe_resume(self, open_records: int, open_bytes: int) -> list[MarketRecord]:
        """Resume the feeds if less than `low` is open. Returns the records set aside, for the caller to hold."""
        if open_records >= max(1, self._high_records // 4) or open_bytes >= self._high_bytes // 4:
            return []
        self._not_paused.set()
        self._is_setting_aside = False
        return self.take_back()

    def close(self) -> None:
        """Drop every further record."""
        self._full_records = self._calm_records = 0
