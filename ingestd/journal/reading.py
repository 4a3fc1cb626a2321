"""Reading batches: from memory where a sink keeps up, from the files where it has fallen behind."""

from __future__ import annotations

from functools import partial

import msgspec

from ingestd.errors import JournalDamaged, JournalError
from ingestd.journal.batch import Batch, FilePlace
from ingestd.journal.file import JournalFile
from ingestd.journal.files import JournalFiles
from ingestd.journal.memory import RecentBatches
from ingestd.journal.rewriting import Rewriter
from ingestd.journal.rows import StoredBatch
from ingestd.records import decode_batch

READ_BYTES = 8 * 2**20
"""A read brings no more than this, besides its first batch: decoded it is several times as large."""


class BatchReader:
    """Reads batches, and has a file repaired when it meets damage."""

    def __init__(self, journal_id: str, files: JournalFiles, recent: RecentBatches, rewriter: Rewriter) -> None:
        self.journal_id = journal_id
        self.files = files
        self._recent = recent
        self._rewriter = rewriter

    async def read_after(self, place: FilePlace, max_records: int, skipped: dict[str, int]) -> list[Batch]:
        """The batches beyond `place`, oldest first; at least one if there is one.

        `skipped`: by journal id, the position up to which it is passed over.
        """
        while place < self._recent.floor and (file := self.files.after(place, skipped)) is not None:
            after = max(place[1] if file.name.sequence == place[0] else 0, skipped.get(file.name.journal_id, 0))
            batches = await self._read_file(file, after, max_records)
            if batches:
                return batches
            if file in self.files.kept:
                place = file.name.sequence, file.last_position
        return self._recent.read(place, skipped.get(self.journal_id, 0), max_records, READ_BYTES)

    def in_memory(self, journal_id: str, position: int) -> Batch | None:
        """The batch at this position, if it is in memory."""
        return self._recent.at(position) if journal_id == self.journal_id else None

    async def counts_between(self, file: JournalFile, after: int, position: int) -> dict[str, int]:
        """Records by channel in the batches of a file beyond `after` up to and including `position`."""
        with self.files.using(file):
            return await self.files.in_reader(partial(file.counts_between, after, position))

    async def _read_file(self, file: JournalFile, after: int, max_records: int) -> list[Batch]:
        """The next batches of a file. Empty, too, when the file was replaced meanwhile."""
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
    """In the reader's thread: the event loop does not wait for the decoding either."""
    batches: list[Batch] = []
    for stored in file.read(after, max_records, READ_BYTES):
        try:
            batches.append(_decoded(file, stored))
        except msgspec.DecodeError as error:
            if batches:
                break  # the next read meets it first
            raise JournalDamaged(f"{file.path}: batch {stored.position} cannot be decoded: {error}") from error
    return batches


def _decoded(file: JournalFile, stored: StoredBatch) -> Batch:
    return Batch(
        journal_id=file.name.journal_id,
        position=stored.position,
        sealed_at=stored.sealed_at,
        counts=stored.counts,
        records=decode_batch(stored.payload),
        size_bytes=len(stored.payload),
        file_sequence=file.name.sequence,
    )
