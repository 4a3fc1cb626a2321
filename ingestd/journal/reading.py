"""Reads batches: from memory for a sink that keeps up, from the files for one that has fallen behind."""

from __future__ import annotations

from functools import partial

import msgspec

from ingestd.errors import JournalDamaged, JournalError
from ingestd.journal.batch import Batch, FilePlace
from ingestd.journal.file import JournalFile
from ingestd.journal.files import JournalFiles
from ingestd.journal.memory import RecentBatches
from ingestd.journal.rewriting import Rewriter
from ingestd.records import decode_batch

READ_BYTES = 8 * 2**20
"""The most that one read returns; a first batch that is larger is returned alone. Decoded records take several times
as much memory."""


class BatchReader:
    """Reads batches, and has a file repaired if it finds damage."""

    def __init__(self, journal_id: str, files: JournalFiles, recent: RecentBatches, rewriter: Rewriter) -> None:
        self.journal_id = journal_id
        self.files = files
        self._recent = recent
        self._rewriter = rewriter

    async def read_after(self, place: FilePlace, max_records: int, skipped: dict[str, int]) -> list[Batch]:
        """The batches after `place`, oldest first; at least one if there is one.

        `skipped` gives, by journal id, the position up to which batches are left out.
        """
        while place < self._recent.floor and (file := self.files.after(place, skipped)) is not None:
            after = max(place[1] if file.name.sequence == place[0] else 0, skipped.get(file.name.journal_id, 0))
            batches = await self._read_file(file, after, max_records)
            if batches:
                return batches
            if file in self.files.kept:
                place = file.place
        return self._recent.read(place, skipped.get(self.journal_id, 0), max_records, READ_BYTES)

    def in_memory(self, journal_id: str, position: int) -> Batch | None:
        """The batch at this position, if it is in memory."""
        return self._recent.at(position) if journal_id == self.journal_id else None

    async def _read_file(self, file: JournalFile, after: int, max_records: int) -> list[Batch]:
        """The next batches of a file; none if it was replaced or deleted meanwhile, or was damaged and is repaired."""
        with self.files.using(file):
            try:
                return await self.files.in_reader(partial(_read, file, after, max_records))
            except JournalDamaged as error:
                await self._rewriter.repair(file, error)
                return []
            except JournalError:
                if file in self.files.kept:
                    raise
                return []


def _read(file: JournalFile, after: int, max_records: int) -> list[Batch]:
    """Read and decode batches. Runs in the reader's thread, so that the event loop waits for neither."""
    batches: list[Batch] = []
    for stored in file.read(after, max_records, READ_BYTES):
        try:
            batches.append(stored.with_records(decode_batch(stored.payload), file.name.journal_id, file.name.sequence))
        except msgspec.DecodeError as error:
            if batches:
                break  # return the good batches; the next read begins with this one, and raises
            raise JournalDamaged(f"{file.path}: batch {stored.position} cannot be decoded: {error}") from error
    return batches
