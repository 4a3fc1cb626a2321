"""What a fetch brings is read within bounds by both of the library's readers, and what cannot be read stops nothing."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from itertools import islice

import cramjam
import pytest
from aiokafka.record import default_records
from aiokafka.record.util import decode_varint_py
from aiokafka.structs import TopicPartition

from ingestd.kafka import batch_format
from ingestd.kafka.batch_format import FetchedBatches
from ingestd.kafka.batches import Bounds, PartitionRecords
from ingestd.kafka.codecs import TooLarge, unpacked
from ingestd.kafka.messages import Message, Unreadable
from tests.support.batches import CODECS, batch, old_message, pack, record, records, sound, varint

KINDS = ["gzip", "snappy", "raw snappy", "lz4", "zstd"]
BOUND = 2**20


@pytest.fixture(params=["compiled", "python"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With each of the library's two readers of records."""
    kinds = {"compiled": default_records.DefaultRecordBatch, "python": default_records._DefaultRecordBatchPy}
    monkeypatch.setattr(batch_format, "DefaultRecordBatch", kinds[request.param])
    # As where there is nothing compiled at all.
    monkeypatch.setattr(default_records._DefaultRecordBatchPy._read_msg, "__defaults__", (decode_varint_py,))
    return str(request.param)


def fetched(data: bytes, offset: int = 0, bounds: Bounds | None = None) -> PartitionRecords:
    bounds = bounds or Bounds(BOUND, BOUND // 4)
    return PartitionRecords(TopicPartition("t", 0), FetchedBatches(data), None, offset, None, bounds, True, 0)


def read(data: bytes, offset: int = 0, bounds: Bounds | None = None) -> list[Message]:
    """As the consumer does: what may come right is fetched again, from where the reading ended."""
    bounds, found = bounds or Bounds(BOUND, BOUND // 4), list[Message]()
    for _ in range(10):
        bounds.begin_poll()
        fetch = fetched(data, offset, bounds)
        found += fetch
        if fetch.next_fetch_offset == offset and found:
            break
        offset = fetch.next_fetch_offset
    return found


def said(messages: list[Message]) -> list[object]:
    """Of each message its offset and value, of what was put aside its offsets and why."""
    return [
        (m.first_offset, m.offset, m.reason) if isinstance(m, Unreadable) else (m.offset, m.value) for m in messages
    ]


BEHIND = sound(100, [b"behind"])


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("kind", ["none", *KINDS])
def test_sound_batches_are_read_as_they_were_written(kind: str) -> None:
    values = [b"value %d" % number * 50 for number in range(300)]
    found = read(sound(0, values, kind) + sound(300, [b"next"], kind))
    assert said(found) == [*enumerate(values), (300, b"next")]
    assert found[0].headers == (("h", b"v"),)
    assert found[0].key == b"k"


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_past_the_bound_is_put_aside_and_the_next_one_read(kind: str) -> None:
    large = sound(5, [bytes(BOUND)], kind)
    assert said(read(sound(4, [b"a"]) + large + BEHIND, 4)) == [(4, b"a"), (5, 5, "too_large"), (100, b"behind")]
    of_many = batch(5, pack(kind, bytes(BOUND + 1)), 95, kind)
    assert said(read(of_many + BEHIND, 5)) == [(5, 99, "too_large"), (100, b"behind")]


@pytest.mark.parametrize("kind", ["gzip", "raw snappy", "snappy", "lz4", "zstd"])
def test_no_more_than_the_bound_is_ever_unpacked(kind: str) -> None:
    packed = memoryview(pack(kind, bytes(100 * BOUND)))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            unpacked(CODECS[kind.removeprefix("raw ")], packed, BOUND)
        assert tracemalloc.get_traced_memory()[1] < 3 * BOUND
    finally:
        tracemalloc.stop()


def forged_snappy() -> bytes:
    return b"\x0a" + pack("raw snappy", bytes(5 * BOUND))[4:]  # says that it holds 10 bytes


def snappy_of_gigabytes() -> bytes:
    return b"\xff\xff\xff\xff\x0f" + b"\x00a"


def zstd_frames(number: int) -> bytes:
    return pack("zstd", bytes(BOUND // 2)) * number


def zstd_that_says(size: int) -> bytes:
    """A frame of one segment whose header says this size, with blocks (RLE) of much more."""
    header = b"\x28\xb5\x2f\xfd" + bytes([0b1110_0000]) + struct.pack("<Q", size)
    blocks = [struct.pack("<I", (128 * 1024 << 3) | 2 | (last << 0))[:3] + b"\x00" for last in [0] * 63 + [1]]
    return header + b"".join(blocks)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    ("kind", "packed"),
    [
        ("snappy", forged_snappy()),
        ("snappy", snappy_of_gigabytes()),
        ("snappy", pack("snappy", b"")[:16] + struct.pack(">i", -5) + b"abcdef"),
        ("snappy", pack("snappy", b"x")[:16] + struct.pack(">i", 2**30) + b"abcdef"),
        ("snappy", pack("snappy", b"x") + b"\x00"),
        ("zstd", zstd_frames(3)),
        ("zstd", zstd_that_says(5)),
        ("zstd", zstd_that_says(2**62)),
        ("zstd", struct.pack("<II", 0x184D2A50, 2**32 - 1) + b"x"),  # a frame to skip, of 4 GB
        ("gzip", pack("gzip", bytes(BOUND // 2)) * 3),
        ("gzip", pack("gzip", bytes(5 * BOUND))[:-4] + b"\x05\x00\x00\x00"),
        ("lz4", pack("lz4", bytes(BOUND // 2)) * 3),
        *((kind, b"") for kind in ("gzip", "snappy", "lz4", "zstd")),
        *((kind, b"no such thing") for kind in ("gzip", "snappy", "lz4", "zstd")),
        *((kind, pack(kind, records([b"x" * 99]))[:-5]) for kind in ("gzip", "snappy", "lz4", "zstd")),
    ],
)
def test_sizes_that_lie_and_bytes_that_cannot_be_unpacked_cost_only_their_batch(kind: str, packed: bytes) -> None:
    [aside, behind] = said(read(batch(90, packed, 10, kind) + BEHIND, 90))
    assert aside in ((90, 99, "too_large"), (90, 99, "unreadable"))
    assert behind == (100, b"behind")


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("kind", ["gzip", "lz4", "zstd"])
def test_streams_of_several_frames_are_read(kind: str) -> None:
    plain = records([b"one", b"two", b"three"])
    packed = b"".join(pack(kind, plain[at : at + 9]) for at in range(0, len(plain), 9))
    if kind == "zstd":
        packed = struct.pack("<II", 0x184D2A53, 3) + b"abc" + packed  # a frame to skip
    assert said(read(batch(0, packed, 3, kind))) == [(0, b"one"), (1, b"two"), (2, b"three")]


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("kind", ["none", "zstd"])
@pytest.mark.parametrize(
    "make",
    [
        lambda kind: batch(97, pack(kind, records([b"a", b"b", b"c"])), 3, kind, count=2_000_000_000),
        lambda kind: batch(97, pack(kind, records([b"a", b"b", b"c"])), 3, kind, count=-1),
        lambda kind: batch(97, pack(kind, records([b"a", b"b", b"c"])), 3, kind, count=2),
        lambda kind: batch(97, pack(kind, records([b"a", b"b", b"c"])[:-4]), 3, kind),
        lambda kind: batch(97, pack(kind, records([b"a", b"b"]) + b"\xff" * 30), 3, kind),
        lambda kind: batch(97, pack(kind, records([b"a"]) + b"\x80" * 9 + b"\x01" * 99), 3, kind),
        lambda kind: batch(97, pack(kind, b"\x10\x00\x00\x00" + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 3, kind),
        lambda kind: batch(97, pack(kind, b"\x10\x00\x00\x00\x01\x01" + b"\xfe\xff\xff\xff\xff\xff\x01"), 3, kind),
        lambda kind: batch(97, pack(kind, b"\x12\x00\x00\xfe\xff\xff\xff\x0f\x01\x01\x00"), 3, kind),
        lambda kind: batch(97, pack(kind, b"\x0e\x00\x00\x01\x01\x01\x00"), 3, kind),
        lambda kind: batch(97, b"", 3, kind),
    ],
)
def test_records_that_lie_of_their_number_or_size_cost_only_what_is_behind_them_in_the_batch(
    make: Callable[[str], bytes], kind: str
) -> None:
    found = said(read(make(kind) + BEHIND, 97))
    assert found[-1] == (100, b"behind")
    good = [pair for pair in found[:-1] if len(pair) == 2]  # type: ignore[arg-type] # pairs and triples
    assert good == [(97, b"a"), (98, b"b"), (99, b"c")][: len(good)]
    assert found[len(good) : -1] == ([(97 + len(good), 99, "unreadable")] if len(good) < 3 else [])


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("delta", [-1, -(2**31), 2**31 - 1])
def test_offsets_that_cannot_be_move_the_reading_by_one(delta: int) -> None:
    assert said(read(batch(50, records([b"a"]), 1, last_delta=delta), 50))[0] == (50, 50, "unreadable")


@pytest.mark.usefixtures("reader")
def test_a_codec_that_does_not_exist_costs_only_its_batch() -> None:
    assert said(read(batch(99, records([b"a"]), 1, attributes=7) + BEHIND, 99)) == [
        (99, 99, "unreadable"),
        (100, b"behind"),
    ]


@pytest.mark.usefixtures("reader")
def test_a_wrong_checksum_is_fetched_twice_more_and_then_put_aside() -> None:
    wrong = batch(98, records([b"a", b"b"]), 2, crc=1)
    bounds = Bounds()
    for _ in range(2):
        fetch = fetched(sound(97, [b"good"]) + wrong + BEHIND, 97, bounds)
        assert said(list(fetch)) == [(97, b"good")]
        assert fetch.ended
        assert fetch.next_fetch_offset == 98
    last = fetched(wrong + BEHIND, 98, bounds)
    assert said(list(last)) == [(98, 99, "unreadable"), (100, b"behind")]
    mended = Bounds()
    assert said(list(fetched(wrong, 98, mended))) == []
    assert said(list(fetched(sound(98, [b"a", b"b"]), 98, mended))) == [(98, b"a"), (99, b"b")]


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("length", [-(2**31), -12, -1, 0, 5, 13, 40, 2**31 - 1])
def test_a_length_that_is_not_that_of_the_bytes_is_put_aside_where_nothing_is_whole(length: int) -> None:
    data = bytearray(batch(60, records([b"a", b"b"]), 2))
    data[8:12] = struct.pack(">i", length)
    [first, *_] = said(read(bytes(data), 60))
    assert first in ((60, 61, "unreadable"), (60, 60, "unreadable"))


def test_a_batch_that_is_cut_off_behind_whole_ones_is_fetched_again() -> None:
    fetch = fetched(sound(0, [b"a"]) + sound(1, [b"b"])[:-3])
    assert said(list(fetch)) == [(0, b"a")]
    assert (fetch.next_fetch_offset, fetch.ended) == (1, True)


@pytest.mark.usefixtures("reader")
def test_a_message_past_its_bound_is_put_aside_alone() -> None:
    data = sound(0, [b"a", bytes(BOUND // 2), b"c"], "zstd")
    assert said(read(data)) == [(0, b"a"), (1, 1, "too_large"), (2, b"c")]


def header(name: bytes, value: bytes) -> bytes:
    return varint(len(name)) + name + varint(len(value)) + value


def read_cheaply(data: bytes, peak_bytes: int) -> list[Message]:
    """With the limits of a consumer, in polls that each take no more than this memory."""
    bounds, found, ended = Bounds(), list[Message](), False
    fetch = fetched(data, 0, bounds)
    while not ended:
        bounds.begin_poll()
        tracemalloc.start()
        try:
            found += list(fetch)
            assert tracemalloc.get_traced_memory()[1] < peak_bytes
        finally:
            tracemalloc.stop()
        ended = fetch.ended
    return found


EMPTY_HEADER = b"\x00\x00"
FILLS_A_BATCH = 16 * 2**20 - 50  # empty headers


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("length", [None, 20])
def test_headers_that_fill_a_batch_are_not_read(length: int | None) -> None:
    """A kilobyte of zstd; what the library would make of it takes more than a gigabyte."""
    bomb = record(1, b"{}", EMPTY_HEADER * FILLS_A_BATCH, FILLS_A_BATCH, length=length)
    plain = record(0, b"a", b"", 0) + bomb + record(2, b"c", b"", 0)
    data = batch(0, pack("zstd", plain), 3, "zstd")
    assert len(data) < 2000
    found = read_cheaply(data + BEHIND, 160 * 2**20)
    if length is None:
        assert said(found) == [(0, b"a"), (1, 1, "too_large"), (2, b"c"), (100, b"behind")]
    else:
        assert said(found) == [(0, b"a"), (1, 2, "unreadable"), (100, b"behind")]


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("header_bytes", [1, 12_000])
def test_a_message_has_at_most_a_hundred_headers(header_bytes: int) -> None:
    """In a small batch and in one that is read in parts; in one part with others and alone."""
    headers = header(b"h", b"v")
    many = header(b"h", bytes(header_bytes))
    plain = [
        record(0, b"a", headers * 100, 100),
        record(1, b"b", headers * 101, 101),
        record(2, b"c", many * 100, 100),
        record(3, b"d", many * 101, 101),
        record(4, b"e", b"", 0),
    ]
    found = read(batch(0, b"".join(plain), 5) + BEHIND, bounds=Bounds())
    expected = [(0, b"a"), (1, 1, "too_large"), (2, b"c"), (3, 3, "too_large"), (4, b"e")]
    assert said(found) == [*expected, (100, b"behind")]
    assert found[0].headers == (("h", b"v"),) * 100
    assert isinstance(found[1], Unreadable)
    assert found[1].error == "a message with 101 headers, more than 100"


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("kind", ["none", "zstd"])
@pytest.mark.parametrize("parts", [(1, 20 * 2**20), (20 * 2**20, 1)])
def test_headers_count_for_the_size_of_a_message(kind: str, parts: tuple[int, int]) -> None:
    long = header(*(b"x" * size for size in parts))
    plain = record(0, b"a", b"", 0) + record(1, b"{}", long, 1) + record(2, b"c", b"", 0)
    found = read(batch(0, pack(kind, plain), 3, kind) + BEHIND, bounds=Bounds())
    assert said(found) == [(0, b"a"), (1, 1, "too_large"), (2, b"c"), (100, b"behind")]


@pytest.mark.usefixtures("reader")
def test_many_headers_over_many_messages_are_read_over_several_polls() -> None:
    number = 40_000
    plain = b"".join(record(delta, b"{}", EMPTY_HEADER * 50, 50) for delta in range(number))
    bounds, seen, polls = Bounds(), 0, 0
    fetch = fetched(batch(0, pack("zstd", plain), number, "zstd"), 0, bounds)
    while not fetch.ended:
        bounds.begin_poll()
        found = list(fetch)
        assert [message.offset for message in found] == list(range(seen, seen + len(found)))
        assert sum(len(message.headers) for message in found) < 50_000
        seen, polls = seen + len(found), polls + 1
    assert (seen, polls > 40) == (number, True)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    ("tail", "number", "count"),
    [
        (b"\x00\x80", 1, None),  # a length that is cut off
        (b"\x01" * 20, 1, None),  # negative
        (varint(2**40) + b"\x00", 1, None),
        (b"\xff" * 40, 1, None),
        (b"", 1, None),  # one fewer than the header says
        (b"", 0, 2_000_000_000),
        (record(3, b"{}", b"", 0), 0, None),  # one more
        (varint(2**21) + b"\xff" * 2**21, 1, None),
        (varint(2**21) + b"\x00" + b"\xff" * 2**21, 1, None),
        (varint(2**21) + b"\x00\x00\x06" + varint(2**30) + bytes(2**21), 1, None),
        (varint(2**21) + b"\x00\x00\x06" + varint(-2) + bytes(2**21), 1, None),
        (record(3, bytes(2**21), b"", -5), 1, None),
        (record(9, bytes(5 * 2**20), b"", 0), 1, None),  # an offset behind the batch's last
        (record(-9, bytes(5 * 2**20), b"", 0), 1, None),
    ],
)
def test_a_large_batch_that_lies_costs_only_what_is_behind_the_lie(tail: bytes, number: int, count: int | None) -> None:
    values = [b"a", bytes(2**21), b"c"]
    plain = b"".join(record(delta, value, b"", 0) for delta, value in enumerate(values)) + tail
    found = read(batch(0, plain, 4, count=3 + number if count is None else count) + BEHIND, bounds=Bounds())
    assert said(found) == [*enumerate(values), (3, 3, "unreadable"), (100, b"behind")]


@pytest.mark.usefixtures("reader")
def test_an_error_does_not_quote_a_message_whole() -> None:
    found = read(batch(99, record(0, b"", header(b"\xff" * 100_000, b""), 1), 1) + BEHIND, 99)
    assert said(found) == [(99, 99, "unreadable"), (100, b"behind")]
    assert isinstance(found[0], Unreadable)
    assert len(found[0].error) <= 1000


def test_a_fetch_of_many_large_batches_is_read_over_several_polls() -> None:
    bounds = Bounds(BOUND, BOUND, left_bytes=3 * BOUND)
    values = [bytes(BOUND - 100)]
    fetch = fetched(b"".join(sound(offset, values, "zstd") for offset in range(50)), 0, bounds)
    first = list(fetch)
    assert 3 <= len(first) <= 4
    assert (fetch.ended, fetch.next_fetch_offset) == (False, len(first))
    assert list(fetch) == []
    bounds.left_bytes = 100 * BOUND
    assert [message.offset for message in fetch] == list(range(len(first), 50))
    assert fetch.ended


def test_a_batch_of_more_than_a_poll_is_given_over_several() -> None:
    """What a poll brings is read at one go, and stored by one flush."""
    bounds = Bounds(BOUND, BOUND, left_bytes=BOUND // 10)
    fetch = fetched(sound(0, [bytes(BOUND // 100) for _ in range(90)], "zstd"), 0, bounds)
    seen: list[int] = []
    polls = 0
    while not fetch.ended:
        given = [message.offset for message in fetch]
        assert len(given) <= 10
        seen, polls, bounds.left_bytes = seen + given, polls + 1, BOUND // 10
    assert (seen, polls >= 9) == (list(range(90)), True)


def test_bombs_are_charged_too() -> None:
    bounds = Bounds(BOUND, BOUND, left_bytes=3 * BOUND)
    fetch = fetched(b"".join(sound(offset, [bytes(2 * BOUND)], "zstd") for offset in range(50)), 0, bounds)
    assert [message.offset for message in fetch] == [0, 1, 2]
    assert not fetch.ended


def test_a_poll_that_takes_few_leaves_the_rest_of_the_batch_for_the_next() -> None:
    fetch = fetched(sound(0, [b"%d" % number for number in range(10)], "lz4") + sound(10, [b"10"]))
    assert said(list(islice(fetch, 4))) == [(number, b"%d" % number) for number in range(4)]
    assert fetch.next_fetch_offset == 4
    assert [message.offset for message in fetch] == list(range(4, 11))
    assert fetch.ended


def test_a_fetch_from_the_middle_of_a_batch_begins_there() -> None:
    data = sound(0, [b"a", b"b", b"c"], "gzip")
    assert said(read(data, 1)) == [(1, b"b"), (2, b"c")]
    assert said(read(batch(0, b"?", 10, "zstd"), 7)) == [(7, 9, "unreadable")]


def test_control_batches_are_passed_over() -> None:
    assert said(read(batch(99, records([b"\x00\x00\x00\x01"]), 1, attributes=0x30) + BEHIND, 99)) == [(100, b"behind")]


@pytest.mark.parametrize("magic", [0, 1])
def test_messages_of_before_kafka_0_11_are_read(magic: int) -> None:
    plain = b"".join(old_message((0 if magic else 5) + n, b"%d" % n, magic=magic) for n in range(3))
    for kind in ("gzip", "snappy", "lz4"):
        data = old_message(7, pack(kind, plain), magic=magic, attributes=CODECS[kind])
        assert said(read(old_message(4, b"x", magic=magic) + data, 4)) == [(4, b"x"), (5, b"0"), (6, b"1"), (7, b"2")]


def lying(inner: bytes, kind: str = "gzip") -> bytes:
    return old_message(99, pack(kind, inner), attributes=CODECS[kind])


def with_length(length: int) -> bytes:
    message = bytearray(old_message(0, b"x" * 40))
    message[8:12] = struct.pack(">i", length)
    return bytes(message)


@pytest.mark.parametrize(
    "data",
    [
        *(lying(with_length(length)) for length in (-(2**31), -13, -12, -1, 0, 9, 2**31 - 1)),
        *(lying(with_length(length) + old_message(1, b"y")) for length in (-12, 5)),
        lying(old_message(0, pack("gzip", old_message(0, b"x")), attributes=1)),  # one in the other
        lying(bytes(5 * BOUND)),
        lying(old_message(2**63 - 1, b"x") + old_message(0, b"y")),
        lying(old_message(-5, b"x") + old_message(0, b"y")),
        old_message(99, None, attributes=1),
        old_message(99, b"?", attributes=3),
        old_message(99, pack("gzip", b""), attributes=1),
    ],
)
def test_old_messages_that_lie_cost_only_themselves(data: bytes) -> None:
    found = said(read(data + old_message(100, b"behind"), 99))
    assert found[-1] == (100, b"behind")
    assert len(found) <= 3


def test_the_codecs_of_the_tests_are_the_librarys() -> None:
    assert bytes(cramjam.zstd.decompress(pack("zstd", b"x"))) == b"x"
