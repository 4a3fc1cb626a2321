"""Batches: as sinks read them, and as the rows of a journal file, with checksums. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from ingestd.records import Record, all_memory_bytes

# (file sequence, position): orders every batch ever kept in one directory.
FilePlace: TypeAlias = tuple[int, int]
Row: TypeAlias = tuple[int, int, bytes, int, bytes]  # position, sealed_at, encoded counts, checksum, payload


@dataclass(frozen=True, slots=True)
class Batch:
    """A durable batch as sinks read it. `counts`: its records by channel. `size_bytes`: of its payload."""

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


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch as a file holds it. `position` counts up by one through all files of a journal; `sealed_at` is in
    microseconds since the epoch."""

    position: int
    sealed_at: int
    counts: dict[str, int]
    payload: bytes

    def with_records(self, records: list[Record], journal_id: str, file_sequence: int) -> Batch:
        """Return the batch as sinks read it; `records` are those of the payload, decoded."""
        size_bytes = len(self.payload)
        return Batch(journal_id, self.position, self.sealed_at, self.counts, records, size_bytes, file_sequence)


class Totals(msgspec.Struct, array_like=True):
    """What a file holds in all. Stored when the file ends, so that the next start need not read every row."""

    first_position: int = 0
    last_position: int = 0
    oldest_sealed_at: int = 0
    batches: int = 0
    rows_bytes: int = 0  # the size of the rows on disk
    counts: dict[str, int] = {}  # records by channel


_encoder = msgspec.msgpack.Encoder()
_totals_decoder = msgspec.msgpack.Decoder(Totals)
# Decodes a row's records by channel. Raises DecodeError or TypeError on anything else.
counts_of = msgspec.msgpack.Decoder(dict[str, int]).decode


def add_counts(sums: dict[str, int], counts: dict[str, int], sign: int = 1) -> None:
    """Add `counts` to `sums` in place, times `sign`."""
    for channel, count in counts.items():
        sums[channel] = sums.get(channel, 0) + sign * count


def row_of(batch: StoredBatch) -> Row:
    """The row to insert for a batch."""
    counts = _encoder.encode(batch.counts)
    crc = zlib.crc32(batch.payload, zlib.crc32(counts))
    return batch.position, batch.sealed_at, counts, crc, batch.payload


def stored(row: Row) -> StoredBatch | None:
    """The batch in a row; None if its checksum is wrong. Raises DecodeError or TypeError if it is no row of ours."""
    position, sealed_at, counts, crc, payload = row
    if zlib.crc32(payload, zlib.crc32(counts)) != crc:
        return None
    return StoredBatch(position, sealed_at, counts_of(counts), payload)


def totals_row(totals: Totals) -> bytes:
    """The totals to insert, behind their checksum."""
    encoded = _encoder.encode(totals)
    return zlib.crc32(encoded).to_bytes(4, "big") + encoded


def stored_totals(row: bytes) -> Totals | None:
    """The totals in a row; None if their checksum is wrong. Raises DecodeError or TypeError as `stored` does."""
    if zlib.crc32(row[4:]) != int.from_bytes(row[:4], "big"):
        return None
    return _totals_decoder.decode(row[4:])
