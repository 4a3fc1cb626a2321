"""Kafka's batches as bytes, sound ones and all others: for what no broker would take from a producer."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable

import cramjam
from aiokafka import codec
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c, encode_varint

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_AFTER_CRC = struct.Struct(">hiqqqhii")


def pack(name: str, plain: bytes) -> bytes:
    """As producers of this codec do; `snappy` with the frames of Java's library, `raw snappy` without."""
    packers: dict[str, Callable[[bytes], bytes]] = {
        "none": bytes,
        "gzip": lambda data: bytes(cramjam.gzip.compress(data)),
        "snappy": codec.snappy_encode,
        "raw snappy": lambda data: bytes(cramjam.snappy.compress_raw(data)),
        "lz4": lambda data: bytes(cramjam.lz4.compress(data)),
        "zstd": lambda data: bytes(cramjam.zstd.compress(data)),
    }
    return packers[name](plain)


def records(values: Iterable[bytes | None]) -> bytes:
    """The records of a batch, without its header."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**31 - 1)
    for offset, value in enumerate(values):
        builder.append(offset, 1000 + offset, b"k", value, [("h", b"v")])
    return bytes(builder.build())[61:]


def varint(number: int) -> bytes:
    """A number as a record has it."""
    written = bytearray()
    encode_varint(number, written.append)
    return bytes(written)


def record(delta: int, value: bytes, headers: bytes, number: int, *, length: int | None = None) -> bytes:
    """One record with `number` headers in these bytes, and with the length it states, true or not."""
    body = b"\x00\x00" + varint(delta) + varint(-1) + varint(len(value)) + value + varint(number) + headers
    return varint(len(body) if length is None else length) + body


def batch(
    base: int,
    payload: bytes,
    number: int,
    name: str = "none",
    *,
    count: int | None = None,
    last_delta: int | None = None,
    crc: int | None = None,
    attributes: int = 0,
) -> bytes:
    """A batch of `number` records from offset `base` on, whose bytes, packed or not, are the payload; with what its
    header says of them, true or not, under a checksum that is right unless it is given."""
    delta = number - 1 if last_delta is None else last_delta
    flags = attributes | CODECS[name.removeprefix("raw ")]
    body = _AFTER_CRC.pack(flags, delta, 1000, 1000, -1, -1, -1, number if count is None else count) + payload
    crc = calc_crc32c(body) if crc is None else crc
    return struct.pack(">qiibI", base, len(body) + 9, 0, 2, crc) + body


def sound(base: int, values: list[bytes], name: str = "none") -> bytes:
    """A batch as it should be."""
    return batch(base, pack(name, records(values)), len(values), name)


def old_message(offset: int, value: bytes | None, *, magic: int = 1, attributes: int = 0, key: bytes = b"k") -> bytes:
    """A message of before Kafka 0.11; with a codec in its attributes, the value is packed messages."""
    size = -1 if value is None else len(value)
    body = struct.pack(">bb", magic, attributes) + (struct.pack(">q", 1000) if magic else b"")
    body += struct.pack(">i", len(key)) + key + struct.pack(">i", size) + (value or b"")
    return struct.pack(">qiI", offset, len(body) + 4, zlib.crc32(body)) + body
