"""The rows of a journal file: batches and totals, as they are stored and with their checksums. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

Row: TypeAlias = tuple[int, int, bytes, int, bytes]


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A row: `position` counts up by one through all files of a journal; `sealed_at` in microseconds."""

    position: int
    sealed_at: int
    counts: dict[str, int]
    payload: bytes


class Totals(msgspec.Struct, frozen=True, array_like=True):
    """What a file that has ended holds, so that the next start need not look at every row."""

    first_position: int
    last_position: int
    oldest_sealed_at: int
    batches: int
    rows_bytes: int
    counts: dict[str, int]


_encoder = msgspec.msgpack.Encoder()
_totals_decoder = msgspec.msgpack.Decoder(Totals)
_counts_decoder = msgspec.msgpack.Decoder(dict[str, int])


def row_of(batch: StoredBatch) -> Row:
    """A batch as it is inserted."""
    counts = _encoder.encode(batch.counts)
    crc = zlib.crc32(batch.payload, zlib.crc32(counts))
    return batch.position, batch.sealed_at, counts, crc, batch.payload


def stored(row: Row) -> StoredBatch | None:
    """The batch in a row; None when its checksum is wrong. Raises DecodeError or TypeError on what is none at all."""
    position, sealed_at, counts, crc, payload = row
    if zlib.crc32(payload, zlib.crc32(counts)) != crc:
        return None
    return StoredBatch(position, sealed_at, counts_of(counts), payload)


def counts_of(encoded: bytes) -> dict[str, int]:
    """Records by channel, as a row has them. Raises DecodeError or TypeError on anything else."""
    return _counts_decoder.decode(encoded)


def totals_row(totals: Totals) -> bytes:
    """The totals as they are inserted."""
    encoded = _encoder.encode(totals)
    return zlib.crc32(encoded).to_bytes(4, "big") + encoded


def stored_totals(row: bytes) -> Totals | None:
    """The totals in a row; None when their checksum is wrong. Raises DecodeError or TypeError as `stored` does."""
    if zlib.crc32(row[4:]) != int.from_bytes(row[:4], "big"):
        return None
    return _totals_decoder.decode(row[4:])
