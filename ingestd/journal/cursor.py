"""One durable sink's place in the journal, and its account of what it has not stored yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from ingestd.errors import JournalError
from ingestd.journal.file import JournalFile, add_counts
from ingestd.records import Record, all_memory_bytes

T = TypeVar("T")

# (file sequence, position): orders every batch ever kept in one directory.
Place = tuple[int, int]


class Kept(Protocol):
    """The journal, as its cursors see it."""

    journal_id: str

    async def read_after(
        self, place: Place, max_records: int, skipped: dict[str, int] | None = None
    ) -> list[Batch]: ...

    async def counts_between(self, file: JournalFile, after: int, position: int) -> dict[str, int]: ...

    def files(self) -> list[JournalFile]: ...

    def file_after(self, place: Place, skipped: dict[str, int]) -> JournalFile | None: ...

    def in_memory(self, journal_id: str, position: int) -> Batch | None: ...

    def look_up(self, work: Callable[[], T]) -> Future[T]: ...

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """A sealed, durable batch."""

    journal_id: str
    position: int
    sealed_at: int
    counts: dict[str, int]
    records: list[Record]
    size_bytes: int
    file_sequence: int

    @property
    def place(self) -> Place:
        return self.file_sequence, self.position

    @property
    def memory_bytes(self) -> int:
        """About what its records take in memory."""
        return all_memory_bytes(self.records)


class Cursor:
    """One durable sink's place in the journal. Reads go forward; only `acknowledge` and `skip_to` let files go."""

    def __init__(self, journal: Kept, name: str) -> None:
        self.name = name
        self.acknowledged_at: Place = (0, 0)  # everything up to here is stored
        self.read_at: Place = (0, 0)
        self.pending: dict[str, int] = {}  # records by channel that are journaled and not acknowledged
        # Records by channel that an earlier process left for this sink: what was found at the start, without what
        # `skip_to` said is stored. What is dropped of them later is still counted here.
        self.recovered: dict[str, int] = {}
        self.skipped: dict[str, int] = {}  # by journal id, the position up to which it is stored
        self._left: dict[int, dict[str, int]] = {}  # `pending`, by file
        self._journal = journal
        self._woken = asyncio.Event()
        self._sealed_after: tuple[Place, int] | None = None  # as last looked up
        self._looking_up: Future[int | None] | None = None

    async def wait(self) -> None:
        """Until there may be something new to read, or `wake` was called."""
        await self._woken.wait()
        self._woken.clear()

    def wake(self) -> None:
        """End the present or next `wait`."""
        self._woken.set()

    async def read(self, max_records: int) -> list[Batch]:
        """The next batches, about `max_records` records of them; empty when there is nothing new.

        Raises JournalError when the disk cannot be read now; what is on it is not given up, so ask again.
        """
        batches = await self._journal.read_after(self.read_at, max_records, self.skipped)
        if batches:
            self.read_at = batches[-1].place
        return batches

    async def skip_to(self, journal_id: str, position: int) -> None:
        """What the sink has already stored of this journal is not read again.

        Older journals that it has not stored are read before what is left of this one, and their files stay.
        """
        floor = self.skipped.get(journal_id, 0)
        if position <= floor:
            return
        files = [file for file in self._journal.files() if file.name.journal_id == journal_id]
        floors = [self.floor_in(file) for file in files]
        self.skipped[journal_id] = position
        for file, floor in zip(files, floors, strict=True):
            if file.first_position > position or file.last_position <= floor:
                continue
            if position >= file.last_position:
                counts = dict(self._left.get(file.name.sequence, {}))
            else:
                counts = await self._journal.counts_between(file, floor, position)
            self._take(file.name.sequence, counts)
            if journal_id != self._journal.journal_id:
                add_counts(self.recovered, counts, -1)
        self._pass_skipped()
        self._journal.release()

    def acknowledge(self, batches: list[Batch]) -> None:
        """The sink has stored everything up to and including these."""
        for batch in batches:
            if batch.place > self.acknowledged_at and batch.position > self.skipped.get(batch.journal_id, 0):
                self._take(batch.file_sequence, batch.counts)
        self.acknowledged_at = max(self.acknowledged_at, batches[-1].place)
        self._pass_skipped()
        self._journal.release()

    @property
    def pending_records(self) -> int:
        return sum(self.pending.values())

    def oldest_pending_at(self) -> int | None:
        """When the oldest batch that is not acknowledged was sealed, microseconds since the epoch; None: none is.

        Never waits for the disk: where only the disk knows, it is asked, and until it answers the last answer counts.
        """
        file = self._journal.file_after(self.acknowledged_at, self.skipped)
        if file is None:
            return None
        floor = self.floor_in(file)
        if floor < file.first_position:
            return file.oldest_sealed_at
        if (batch := self._journal.in_memory(file.name.journal_id, floor + 1)) is not None:
            return batch.sealed_at
        place = (file.name.sequence, floor)
        if self._sealed_after is None or self._sealed_after[0] != place:
            self._look_up(file, place)
        return self._sealed_after[1] if self._sealed_after is not None else file.oldest_sealed_at

    def add(self, sequence: int, counts: dict[str, int]) -> None:
        """So many records more are kept in that file."""
        add_counts(self.pending, counts)
        add_counts(self._left.setdefault(sequence, {}), counts)

    def lose(self, sequence: int, left: dict[str, int]) -> dict[str, int]:
        """That file holds only so many records for this cursor any more. Returns how many went."""
        had = self._left.get(sequence, {})
        gone = {channel: count - left.get(channel, 0) for channel, count in had.items()}
        gone = {channel: count for channel, count in gone.items() if count > 0}
        self._take(sequence, gone)
        return gone

    def forget(self, sequence: int) -> None:
        """That file is gone."""
        add_counts(self.pending, self._left.pop(sequence, {}), -1)

    def floor_in(self, file: JournalFile) -> int:
        """The position up to which this file is stored."""
        sequence, position = self.acknowledged_at
        if file.name.sequence < sequence:
            return file.last_position
        skipped = self.skipped.get(file.name.journal_id, 0)
        return max(skipped, position) if file.name.sequence == sequence else skipped

    def has_begun(self, file: JournalFile) -> bool:
        """Whether it has read or stored a part of the file, but has not stored all of it."""
        floor = self.floor_in(file)
        return floor < file.last_position and (floor >= file.first_position or self.read_at[0] >= file.name.sequence)

    def _take(self, sequence: int, counts: dict[str, int]) -> None:
        add_counts(self.pending, counts, -1)
        if sequence in self._left:
            add_counts(self._left[sequence], counts, -1)

    def _pass_skipped(self) -> None:
        """Move over what is skipped, as far as nothing that is not stored lies before it."""
        if not self.skipped:
            return
        for file in self._journal.files():
            floor = self.floor_in(file)
            if floor >= file.first_position:
                self.acknowledged_at = max(self.acknowledged_at, (file.name.sequence, min(floor, file.last_position)))
            if floor < file.last_position:
                break
        self.read_at = max(self.read_at, self.acknowledged_at)

    def _look_up(self, file: JournalFile, place: Place) -> None:
        if self._looking_up is not None and not self._looking_up.done():
            return

        def answered(future: Future[int | None]) -> None:
            if not future.cancelled() and future.exception() is None and (at := future.result()) is not None:
                self._sealed_after = place, at

        with contextlib.suppress(JournalError):  # closed
            self._looking_up = self._journal.look_up(partial(file.sealed_after, place[1]))
            self._looking_up.add_done_callback(answered)
