"""Every decoder, the configuration, the journal file and the Kafka readers, with at least 10,000 examples in all.

Raw bytes reach little but the first refusal, so most examples are built: shapes the code expects with values it does
not. `make fuzz` runs the same targets under atheris, which finds its way in by coverage.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ingestd.config import dsn
from ingestd.config.models import (
    Config,
    DatabaseConfig,
    FeedConfig,
    InstanceConfig,
    IntakeConfig,
    JournalConfig,
    KafkaConfig,
)
from ingestd.kafka import envelope
from ingestd.records import encode_batch
from ingestd.sources.marks import Marks, Verdict
from tests.fuzz import targets
from tests.fuzz.id_history import IdHistory
from tests.support.documented_frames import DOCUMENTED, documented
from tests.support.records import market_records, trade
from tests.support.time_limits import examples

EXAMPLES = {
    "ccxt_update": 2100,
    "id_series": 1500,
    "market_list": 180,
    "fragments": 180,
    "rest_reply": 1500,
    "http_headers": 1500,
    "market_answer": 600,
    "books_after_cut": 300,
    "batch": 3000,
    "kafka_message": 3000,
    "kafka_position": 3000,
    "kafka_places": 900,
    "compressed_batch": 750,
    "trading_event": 2400,
    "configuration": 3000,
    "dsn": 1800,
    "journal_file": 600,
    **dict.fromkeys((f"native_{exchange}" for exchange in DOCUMENTED), 2100),
}
"""At length; see `examples`."""

NASTY: list[Any] = [None, True, 0, 1, -1, 2**31, 2**63, -(2**70), 1.5, float("nan"), float("inf"), 1e308, [], {}]
NASTY += ["", "0", "1", "-1", "1e-8", "64000.10", "NaN", "Infinity", "-inf", "1e999", "9" * 70, "0x10", " 1", "1_0"]
NASTY += ["٣", "\0", "\ud800", "buy"]
scalars = st.sampled_from(NASTY) | st.integers() | st.text(max_size=4)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=3), scalars, max_size=2)
levels = st.lists(st.lists(scalars, max_size=3), max_size=3)
UPDATE = {
    **dict.fromkeys(("price", "amount", "bid", "ask", "bidVolume", "askVolume", "fundingRate", "markPrice"), scalars),
    **dict.fromkeys(("openInterestAmount", "openInterestValue", "indexPrice", "interval", "id", "side"), scalars),
    **dict.fromkeys(("timestamp", "fundingTimestamp", "nextFundingTimestamp", "nonce", "symbol", "info"), values),
    **dict.fromkeys(("bids", "asks"), levels),
    "rows": st.lists(st.lists(scalars, max_size=8), max_size=3),
}


def dumped(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return documents.map(lambda document: json.dumps(document).encode())


def mutated(sound: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """With a few bytes overwritten, inserted or cut."""
    edit = st.tuples(st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 3))

    def applied(data: bytes, edits: list[tuple[int, bytes, int]]) -> bytes:
        for at, new, gone in edits:
            place = at % (len(data) + 1)
            data = data[:place] + new + data[place + gone :]
        return data

    return st.builds(applied, sound, st.lists(edit, max_size=3))


def wire_documents() -> st.SearchStrategy[bytes]:
    """A message as it is written, with one field replaced by anything."""

    def replaced(record: Any, key: int, value: Any) -> bytes:
        document = json.loads(envelope.encode(record))
        data = document["data"]
        name = sorted(data)[key % len(data)]
        data[name] = value
        return json.dumps(document).encode()

    return st.builds(replaced, market_records(), st.integers(0, 20), values)


EVENT_FIELDS = ["order_id", "trade_id", "symbol", "side", "quantity", "price", "executed_price", "executed_quantity"]
EVENT_FIELDS += ["entry_price", "exit_price", "pnl", "timestamp", "exchange", "order_type", "fee", "strategy"]
events = st.fixed_dictionaries(
    {
        "event_type": st.sampled_from(["ORDER_SUBMITTED", "ORDER_EXECUTED", "TRADE_COMPLETED", "X"]),
        "data": st.dictionaries(st.sampled_from(EVENT_FIELDS), values),
    },
    optional={"timestamp": st.sampled_from(["2024-10-23T18:00:01Z", "1", "x"]) | scalars},
)

SECTIONS: dict[str, type[BaseModel]] = {
    "instance": InstanceConfig,
    "intake": IntakeConfig,
    "journal": JournalConfig,
    "database": DatabaseConfig,
    "kafka": KafkaConfig,
}
documents = st.fixed_dictionaries(
    {},
    optional={
        **{
            name: st.dictionaries(st.sampled_from(sorted(section.model_fields)), values)
            for name, section in SECTIONS.items()
        },
        "feeds": st.lists(st.dictionaries(st.sampled_from(sorted(FeedConfig.model_fields)), values), max_size=2),
        **dict.fromkeys(sorted(set(Config.model_fields) - {*SECTIONS, "feeds"}), values),
    },
)


def native_frames(exchange: str) -> st.SearchStrategy[bytes]:
    """Up to four of a venue's frames, with a field anywhere in them replaced by anything, or a few bytes."""
    sound = documented(exchange).frames

    def replaced(frame: bytes, places: list[int], value: Any) -> bytes:
        document = node = json.loads(frame)
        for place in places:
            keys = list(range(len(node))) if isinstance(node, list) else list(node)
            if not keys:
                break
            key = keys[place % len(keys)]
            if not isinstance(node[key], dict | list) or place == places[-1]:
                node[key] = value
                break
            node = node[key]
        return json.dumps(document).encode()

    built = st.builds(replaced, st.sampled_from(sound), st.lists(st.integers(0, 9), min_size=1, max_size=4), values)
    frame = st.sampled_from(sound) | built | mutated(st.sampled_from(sound)) | st.binary(max_size=30)
    return st.lists(frame, min_size=1, max_size=4).map(b"\n".join)


TEXTS = [b"", b"{}", b"[" * 2000, b" " * 5000]
PACKED = [pack(text) for text in TEXTS for pack in (bytes, gzip.compress, zlib.compress)]
PACKED += [gzip.compress(b" " * 1000) * 3, gzip.compress(b" " * 1000) * 5, gzip.compress(b"") * 70]
replies = st.builds(
    lambda head, body: bytes(head) + body,
    st.tuples(st.integers(0, 255), st.integers(0, 255)),
    mutated(st.sampled_from(PACKED) | st.binary(max_size=50)),
)
WAITS = [
    b"1",
    b"-1",
    b"nan",
    b"inf",
    b"1e308",
    b"9" * 400,
    b"soon",
    b"Fri, 31 Dec 9999 23:59:59 GMT",
    b"Fri, 1 Jan 1 0:0 +9999",
]
PLACES = [b"/v2", b"//other/", b"https://other/", b"http://api.venue.example/", b"https://api.venue.example:444/"]
PLACES += [
    b"https:\\\\other",
    b"https:/v2",
    b"https://u:p@api.venue.example@other/",
    b"https://[::1",
    b"?a=\0",
    b"https://x:y/",
]
header_texts = mutated(st.sampled_from(WAITS + PLACES)) | st.binary(max_size=30)
# Fields of markets as the venues of the target `market_answer` write them.
LISTED_FIELDS = (
    "symbol", "id", "instId", "baseAsset", "quoteAsset", "baseCoin", "quoteCoin", "base", "quote", "baseCcy",
    "quoteCcy", "baseCurrency", "quoteCurrency", "base-currency", "quote-currency", "status", "state", "filters",
    "lotSizeFilter", "priceFilter", "tickSz", "lotSz", "minSz", "precision", "amount_precision", "baseIncrement",
    "priceIncrement", "symbolTradeLimit", "minQty", "tickSize", "price-precision", "trade_status", "fee", "orderTypes",
    "permissions",
)  # fmt: skip


def dsns() -> st.SearchStrategy[bytes]:
    """URLs and words of sound parts, of which some are put where they do not belong."""
    parts = [
        "postgresql://",
        "u",
        ":",
        "p%40w",
        "@",
        "h",
        ",",
        "[::1]",
        ":5432",
        "/db",
        "?",
        "&",
        "sslmode",
        "=require",
    ]
    parts += [
        "password=",
        "passwor%64=",
        "host=a,b",
        " port=1,2",
        " user = ",
        "'a \\' b'",
        "\\",
        "%",
        "%zz",
        "#",
        " ",
        "x=1",
    ]
    return st.lists(st.sampled_from(parts), max_size=12).map(lambda chosen: "".join(chosen).encode()) | mutated(
        st.sampled_from(targets.seeds("dsn"))
    )


BYTES: dict[str, st.SearchStrategy[bytes]] = {
    "ccxt_update": dumped(st.fixed_dictionaries({}, optional=UPDATE)),
    "books_after_cut": st.binary(min_size=2, max_size=60),
    "id_series": st.lists(st.integers(0, 255) | st.sampled_from([0, 1, 5, 4, 2, 0x43]), max_size=40).map(bytes),
    "market_list": st.binary(max_size=40),
    "fragments": st.lists(st.integers(0, 255) | st.sampled_from([1, 2, 3, 9, 2, 11, 6]), max_size=20).map(bytes),
    "rest_reply": replies,
    "http_headers": st.builds(lambda a, b: b"\n".join([a, b]), header_texts, header_texts),
    "market_answer": st.builds(
        lambda venue, entry: bytes([venue]) + entry,
        st.integers(0, 255),
        dumped(st.dictionaries(st.sampled_from(LISTED_FIELDS), values, max_size=6) | values),
    ),
    "batch": mutated(st.lists(market_records(), max_size=4).map(encode_batch)) | st.binary(max_size=60),
    "kafka_message": mutated(market_records().map(envelope.encode)) | wire_documents() | st.binary(max_size=60),
    "kafka_position": mutated(st.just(b"0123456789abcdef:17:3")) | st.binary(max_size=20),
    "kafka_places": st.lists(
        st.tuples(
            st.sampled_from([0, 0, 0, 130, 160, 163, 175, 190, 230, 250]) | st.integers(0, 255),
            st.integers(0, 255),
            st.integers(0, 255),
        ).map(bytes),
        max_size=60,
    ).map(b"".join),
    "compressed_batch": st.builds(
        lambda first, rest: bytes([first]) + rest,
        st.integers(0, 255),
        st.binary(max_size=80) | mutated(st.sampled_from([seed[1:] for seed in targets.seeds("compressed_batch")])),
    ),
    "trading_event": dumped(events) | mutated(dumped(events)),
    "configuration": st.binary(max_size=60) | mutated(st.just(b'[instance]\nname = "a"\n[intake]\nlinger_ms = 5\n')),
    "dsn": dsns(),
    "journal_file": st.binary(min_size=4, max_size=40),
    **{f"native_{exchange}": native_frames(exchange) for exchange in DOCUMENTED},
}


def fuzzed(name: str) -> Callable[[], None]:
    @settings(
        max_examples=examples(EXAMPLES[name]), deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(BYTES[name])
    def run(data: bytes) -> None:
        targets.TARGETS[name](data)

    return run


@pytest.mark.parametrize("name", targets.TARGETS)
def test_no_input_crashes_it_or_gives_a_wrong_record(name: str) -> None:
    fuzzed(name)()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(documents)
def test_no_document_crashes_the_configuration(document: dict[str, Any]) -> None:
    targets.config_document(document)


def test_there_are_enough_examples() -> None:
    assert EXAMPLES.keys() == targets.TARGETS.keys()
    assert sum(map(examples, EXAMPLES.values())) >= 10_000


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_seeds_are_sound(name: str) -> None:
    for seed in [b"", *targets.seeds(name)]:
        targets.TARGETS[name](seed)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_target_can_fail(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them complains when what it looks at is wrong."""
    wrong: dict[str, tuple[str, bytes]] = {
        "ccxt_update": ("decode_batch", b'{"price": "1", "amount": "1", "timestamp": 1790000000000}'),
        "books_after_cut": ("book_venues.stored", b""),
        "id_series": ("IdHistory.judge", b""),
        "market_list": ("ListingDoubts", b""),
        "fragments": ("judge_frames", b"\x08"),
        "rest_reply": ("judge_reply", b"\0\0{}"),
        "http_headers": ("judge_headers", b"1"),
        "market_answer": ("market_info", b"\x00{}"),
        "batch": ("encode_batch", b"\x90"),
        "kafka_message": ("envelope.encode", b""),
        "kafka_position": ("envelope.parse_position", b"a:1:2"),
        "kafka_places": ("Marks.judge", b"\x00\x01\x01"),
        "compressed_batch": ("kafka_batches.unpacked", b""),
        "trading_event": ("read_event", b'{"event_type": "X", "data": {}}'),
        "configuration": ("parse", b""),
        "dsn": ("config_dsn.shown", b"mysql://u:p@h"),
        "journal_file": ("decode_batch", b"\x00\x00\x00\x01"),
        **{f"native_{exchange}": ("_check_storable", documented(exchange).frames[0]) for exchange in DOCUMENTED},
    }
    where, data = wrong[name]

    def broken(*_arguments: object, **_options: object) -> Any:
        raise AssertionError("broken on purpose")

    if name == "journal_file":
        monkeypatch.setattr("ingestd.journal.reading.decode_batch", lambda _payload: [])
    elif name == "kafka_message":
        data = envelope.encode(trade(1))
        monkeypatch.setattr(envelope, "encode", broken)
    elif name == "compressed_batch":
        data = targets.seeds(name)[1]
        monkeypatch.setattr("ingestd.kafka.batch_format.unpacked", lambda *_: b"")
    elif name == "dsn":
        monkeypatch.setattr(dsn, "shown", lambda text: text)
    elif name == "books_after_cut":
        data = targets.seeds(name)[0]
        monkeypatch.setattr("tests.support.book_venues.stored", lambda _record: ([], []))
    elif name == "id_series":
        monkeypatch.setattr(IdHistory, "judge", broken)
    elif name == "kafka_places":
        monkeypatch.setattr(Marks, "judge", lambda *_: Verdict.REPEATED)
    elif "." in where:
        monkeypatch.setattr(envelope, where.partition(".")[2], broken)
    else:
        monkeypatch.setattr(targets, where, broken)
    with pytest.raises(AssertionError):
        targets.TARGETS[name](data)
