"""Tracks which batches one sink has read and stored. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ingestd.journal.batch import Batch, FilePlace, add_counts
from ingestd.journal.file import JournalFile


class Backlog:
    """One sink's position in the journal, and its number of unstored records by channel and by file."""

    def __init__(self) -> None:
        self.acknowledged_at: FilePlace = (0, 0)  # everything up to here is stored
        self.read_at: FilePlace = (0, 0)
        self.pending: dict[str, int] = {}  # records by channel that are journaled and not acknowledged
        # Records by channel that an earlier process left for this sink: those found at the start that the sink had not
        # stored. Records dropped later are still counted here.
        self.recovered: dict[str, int] = {}
        self.skipped: dict[str, int] = {}  # by journal id, the position up to which it is stored
        self._left: dict[int, dict[str, int]] = {}  # `pending`, by file

    def add(self, sequence: int, counts: dict[str, int]) -> None:
        """Count records added to a file."""
        add_counts(self.pending, counts)
        add_counts(self._left.setdefault(sequence, {}), counts)

    def left_in(self, sequence: int) -> dict[str, int]:
        """The records of a file that are not stored yet."""
        return dict(self._left.get(sequence, {}))

    def take(self, sequence: int, counts: dict[str, int]) -> None:
        """Count records of a file as stored or lost."""
        add_counts(self.pending, counts, -1)
        if sequence in self._left:
            add_counts(self._left[sequence], counts, -1)

    def acknowledge(self, batches: list[Batch]) -> None:
        """Note that everything up to and including these batches is stored."""
        for batch in batches:
            if batch.place > self.acknowledged_at and batch.position > self.skipped.get(batch.journal_id, 0):
                self.take(batch.file_sequence, batch.counts)
        self.acknowledged_at = max(self.acknowledged_at, batches[-1].place)

    def lose(self, sequence: int, left: dict[str, int]) -> Counter[str]:
        """Set the number of records that a file still has for this sink. Returns how many are gone."""
        gone = Counter(self._left.get(sequence, {})) - Counter(left)  # the positive differences
        self.take(sequence, gone)
        return gone

    def forget(self, sequence: int) -> None:
        """Forget a deleted file."""
        add_counts(self.pending, self._left.pop(sequence, {}), -1)

    def floor_in(self, file: JournalFile) -> int:
        """The position up to which this file is stored."""
        sequence, position = self.acknowledged_at
        if file.name.sequence < sequence:
            return file.totals.last_position
        skipped = self.skipped.get(file.name.journal_id, 0)
        return max(skipped, position) if file.name.sequence == sequence else skipped

    def has_none_of(self, file: JournalFile) -> bool:
        """Whether the sink has stored nothing of the file."""
        return self.floor_in(file) < file.totals.first_position

    def has_begun(self, file: JournalFile) -> bool:
        """Whether the sink has read or stored a part of the file, but has not stored all of it."""
        has_part = not self.has_none_of(file) or self.read_at[0] >= file.name.sequence
        return has_part and self.floor_in(file) < file.totals.last_position

    def pass_skipped(self, files: Iterable[JournalFile]) -> None:
        """Advance over skipped batches, as long as every batch before them is stored."""
        if not self.skipped:
            return
        for file in files:
            floor = self.floor_in(file)
            if not self.has_none_of(file):
                self.acknowledged_at = max(self.acknowledged_at, min(file.place, (file.name.sequence, floor)))
            if floor < file.totals.last_position:
                break
        self.read_at = max(self.read_at, self.acknowledged_at)
