"""What a broker answers to a fetch, made of fuzzed bytes, read to its end as a consumer does."""

from __future__ import annotations

from aiokafka.structs import TopicPartition

from ingestd.kafka.batch_format import FetchedBatches
from ingestd.kafka.batches import Bounds, PartitionRecords
from ingestd.kafka.messages import Message, Unreadable
from tests.support.batches import CODECS, batch, old_message, pack, records, sound

KINDS = ("none", "gzip", "snappy", "raw snappy", "lz4", "zstd")
_BATCH_BYTES, _MESSAGE_BYTES = 64 * 2**10, 16 * 2**10
_BEHIND, _NUMBER = 1000, 20  # the offset of a sound batch, and how many messages the one before it says that it has
_FETCHES = 12


def read_fetch(data: bytes) -> None:
    """The first byte says what the others are: an answer as it is, a batch's packed bytes or its records or those of
    old messages, changes to a sound batch, or the values of one. Whatever they are, the reading ends, moves on, makes
    no more than its bounds allow, and comes to what stands behind."""
    if len(data) < 2:
        return
    kind, shape, rest = KINDS[data[0] % len(KINDS)], data[0] // len(KINDS) % 6, data[1:]
    behind = sound(_BEHIND, [b"behind"])
    if shape == 0:
        _read(rest)
        return
    if shape == 1:
        found = _read(batch(0, rest, _NUMBER, kind) + behind)
    elif shape == 2:
        found = _read(batch(0, pack(kind, rest * (data[0] + 1)), _NUMBER, kind) + behind)
    elif shape == 3:
        codec = kind if kind in ("gzip", "snappy", "lz4") else "gzip"
        inner = pack(codec, rest)
        found = _read(old_message(_NUMBER, inner, attributes=CODECS[codec]) + old_message(_BEHIND, b"behind"))
    elif shape == 4:
        changed = bytearray(batch(0, pack(kind, records([b"a", b"b" * 40, None])), 3, kind))
        for at, byte in zip(rest[::2], rest[1::2], strict=False):
            changed[at % len(changed)] = byte
        _read(bytes(changed) + behind)
        return
    else:
        values = [rest[at : at + 50] * (data[0] % 60 + 1) for at in range(0, len(rest), 50)][:_NUMBER]
        found = _read(sound(0, values, kind) + behind)
        assert [message.value for message in found] == [*values, b"behind"]
    assert found[-1].value == b"behind"


def _read(data: bytes) -> list[Message]:
    bounds, found, offset = Bounds(_BATCH_BYTES, _MESSAGE_BYTES), list[Message](), 0
    for number in range(_FETCHES):
        bounds.left_bytes = 10 * _BATCH_BYTES
        fetch = PartitionRecords(TopicPartition("t", 0), FetchedBatches(data), None, offset, None, bounds)
        for message in fetch:
            first = message.first_offset if isinstance(message, Unreadable) else message.offset
            assert offset <= first <= message.offset
            assert len(message.key or b"") + len(message.value or b"") <= max(_MESSAGE_BYTES, len(data))
            offset = message.offset + 1
            found.append(message)
        assert bounds.left_bytes > -_BATCH_BYTES
        assert fetch.next_fetch_offset >= offset
        assert fetch.ended or bounds.left_bytes <= 0
        if fetch.next_fetch_offset > _BEHIND or (number > 3 and fetch.next_fetch_offset == offset):
            break
        offset = fetch.next_fetch_offset
    assert offset > 0
    return found
