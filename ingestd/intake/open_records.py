"""The open records of the intake: those it has taken and not made durable yet. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ingestd.records import MEMORY_BYTES, BookSnapshot, FeedGap, MarketRecord, all_memory_bytes, memory_bytes


class OpenRecords:
    """The open records, in the order in which they came, and which of them are backfilled.

    `shown_live`: there are live sinks. A record is validated when it is shown to them, and need not be validated again.
    """

    def __init__(self, *, shown_live: bool) -> None:
        self.records: list[MarketRecord | FeedGap] = []
        self.book_bytes = 0  # memory of order books beyond the `MEMORY_BYTES` of any record
        self.all_valid = shown_live  # whether every open record is known to be valid
        self._shown_live = shown_live
        self._removed = 0  # how many records have left; an open record's number is this plus its index
        self._backfilled: set[int] = set()  # the numbers of backfilled records

    def __len__(self) -> int:
        return len(self.records)

    @property
    def size_bytes(self) -> int:
        """The approximate memory of the open records, in bytes."""
        return MEMORY_BYTES * len(self.records) + self.book_bytes

    def add(self, record: MarketRecord | FeedGap) -> None:
        """Hold one more record."""
        self.records.append(record)
        if type(record) is BookSnapshot:
            self.book_bytes += memory_bytes(record) - MEMORY_BYTES

    def add_backfilled(self, record: MarketRecord) -> None:
        """Hold one more record, which is backfilled. It is not shown to the live sinks, so it is not validated yet."""
        self._backfilled.add(self._removed + len(self.records))
        self.all_valid = False
        self.add(record)

    def add_again(self, records: Sequence[MarketRecord]) -> None:
        """Hold records that had been set aside. What was wrong with them was noted for an earlier batch, so they are
        validated again."""
        for record in records:
            self.all_valid = False
            self.add(record)

    def remove(self, count: int) -> None:
        """Remove the first `count` records, which are durable or given up."""
        if self._backfilled:
            self._backfilled.difference_update(range(self._removed, self._removed + count))
        if self.book_bytes:
            self.book_bytes -= all_memory_bytes(self.records[:count]) - MEMORY_BYTES * count
        del self.records[:count]
        self._removed += count
        if not self.records:
            self.all_valid = self._shown_live

    def gaps(self) -> list[FeedGap]:
        """The gap records among the open records."""
        return [record for record in self.records if type(record) is FeedGap]

    def fresh(self, first: Sequence[MarketRecord | FeedGap]) -> Sequence[MarketRecord | FeedGap]:
        """Return the records of `first` that are not backfilled. `first` are the first open records."""
        if not self._backfilled:
            return first
        return [record for number, record in enumerate(first, self._removed) if number not in self._backfilled]
