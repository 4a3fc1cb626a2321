"""A sealed batch and its place in the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ingestd.records import Record, all_memory_bytes

# (file sequence, position): orders every batch ever kept in one directory.
FilePlace: TypeAlias = tuple[int, int]


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
    def place(self) -> FilePlace:
        return self.file_sequence, self.position

    @property
    def memory_bytes(self) -> int:
        """The approximate memory of its records, in bytes."""
        return all_memory_bytes(self.records)
