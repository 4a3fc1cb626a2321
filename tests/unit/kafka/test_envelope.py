"""The Kafka message of a record: what it holds, that nothing is lost in it, and that nothing else passes for one."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.errors import EnvelopeError
from ingestd.kafka import envelope
from ingestd.kafka.envelope import (
    TOPIC_KINDS,
    decode,
    encode,
    encoder_of,
    key,
    parse_position,
    topic_kind,
    topic_name,
)
from ingestd.records import (
    CHANNELS,
    BookSnapshot,
    Candle,
    FeedGap,
    Funding,
    Liquidation,
    MarkPrice,
    OpenInterest,
    Record,
    Rejected,
    Tick,
    Trade,
)
from tests.support.records import book, market_records, tick, trade
from tests.support.topics import position_header

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
sane_times = st.integers(0, 253_402_300_799_999_999)
any_times = sane_times | st.integers(-(2**63), 2**63 - 1)
decimals = st.from_regex(r"\A-?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,5})([eE][+-]?[0-9]{1,3})?\Z").filter(str.isascii)
maybe = st.none() | decimals
levels = st.lists(st.tuples(decimals, decimals), max_size=3).map(tuple)
stream = (texts, texts, any_times, sane_times)
records: st.SearchStrategy[Record] = st.one_of(
    market_records(),
    st.builds(Tick, *stream, maybe, maybe, maybe, maybe),
    st.builds(
        Trade,
        *stream,
        texts,
        st.integers(0, 2**63 - 1),
        st.sampled_from(["buy", "sell", None]),
        decimals,
        decimals,
        st.none() | texts,
        st.booleans(),
    ),
    st.builds(BookSnapshot, *stream, levels, levels, st.none() | st.integers(0, 2**63 - 1), st.booleans()),
    st.builds(OpenInterest, *stream, maybe, maybe, maybe, st.none() | texts),
    st.builds(Funding, *stream, decimals, st.none() | sane_times, maybe, maybe, maybe),
    st.builds(
        Candle, *stream, texts, decimals, decimals, decimals, decimals, decimals, maybe, st.none() | st.integers(0, 9)
    ),
    st.builds(Liquidation, *stream, st.sampled_from(["buy", "sell"]), decimals, decimals, st.none() | texts),
    st.builds(MarkPrice, *stream, decimals, maybe),
    st.builds(FeedGap, *stream, texts, st.none() | sane_times, texts, st.none() | texts),
    st.builds(Rejected, *stream, texts, texts, texts),
)


@given(records)
def test_what_is_encoded_decodes_to_itself(record: Record) -> None:
    value = encode(record)
    assert decode(topic_kind(record), value) == record
    document = json.loads(value)
    assert list(document) == ["event_type", "timestamp", "data"]
    assert list(document["data"]) == list(record.__struct_fields__)


nasty_texts = texts | st.sampled_from(['"', "\\", "a\tb", "\x00", "\x7f", "\u2028", "\U0001f600", "\xa0", "", "1\n"])
nasty_stream = (nasty_texts, nasty_texts, any_times | st.integers(-(2**80), 2**80), any_times)


@given(
    st.builds(
        Trade,
        *nasty_stream,
        nasty_texts,
        st.integers(-(2**65), 2**65),
        st.sampled_from(["buy", "sell", None]),
        nasty_texts | decimals,
        nasty_texts | decimals,
    )
    | st.builds(Tick, *nasty_stream, *[maybe | nasty_texts] * 4)
)
def test_every_text_is_written_as_json_writes_it(record: Trade | Tick) -> None:
    """By the standard library, which escapes as little as the encoder does when it is told to keep other scripts."""
    data = {name: getattr(record, name) for name in record.__struct_fields__}
    for name in ("time", "received_at"):
        if 0 <= data[name] < 253_402_300_800_000_000:
            moment = datetime(1970, 1, 1) + timedelta(microseconds=data[name])
            data[name] = moment.isoformat(timespec="microseconds") + "Z"
    timestamp = data["time"] if isinstance(data["time"], str) else data["received_at"]
    event_type = {Trade: "TRADE", Tick: "TICK"}[type(record)]
    event = {"event_type": event_type, "timestamp": timestamp, "data": data}
    expected = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    assert encoder_of(record)(record) == expected
    assert encode(record) == expected


@given(records)
def test_the_quick_way_writes_the_very_bytes_of_the_general_one(record: Record) -> None:
    assert encoder_of(record)(record) == encode(record)


@pytest.mark.parametrize("half", [trade(1, trade_id="\ud800"), trade(1, symbol="\udfff"), tick(1, bid_price="\ud800")])
def test_half_a_surrogate_pair_is_refused(half: Record) -> None:
    with pytest.raises(UnicodeEncodeError):
        encode(half)
    with pytest.raises(UnicodeEncodeError):
        encoder_of(half)(half)


def test_a_trade_reads_as_documented() -> None:
    assert json.loads(encode(trade(1))) == {
        "event_type": "TRADE",
        "timestamp": "2026-09-21T14:13:20.000001Z",
        "data": {
            "exchange": "binance",
            "symbol": "BTC/USDT",
            "time": "2026-09-21T14:13:20.000001Z",
            "received_at": "2026-09-21T14:13:20.005001Z",
            "trade_id": "1",
            "seq": 1,
            "side": "buy",
            "price": "64000.10",
            "quantity": "0.00100000",
            "kind": None,
            "in_candles": True,
            "unit": None,
        },
    }


def test_a_message_of_the_first_version_is_still_read() -> None:
    """As it was written before trades had a kind: without `kind` and `in_candles`."""
    old = (
        b'{"event_type":"TRADE","timestamp":"2026-09-21T14:13:20.000001Z","data":{"exchange":"binance","symbol":'
        b'"BTC/USDT","time":"2026-09-21T14:13:20.000001Z","received_at":"2026-09-21T14:13:20.005001Z","trade_id":"1",'
        b'"seq":1,"side":"buy","price":"64000.10","quantity":"0.00100000"}}'
    )
    assert decode("trades", old) == trade(1)


def test_an_open_interest_of_the_first_version_has_no_unit() -> None:
    old = (
        b'{"event_type":"OPEN_INTEREST","timestamp":"2026-09-21T14:13:20.000001Z","data":{"exchange":"bybit","symbol":'
        b'"BTC/USD:BTC","time":"2026-09-21T14:13:20.000001Z","received_at":"2026-09-21T14:13:20.005001Z",'
        b'"open_interest":"12.5","open_interest_usd":null,"basis":null}}'
    )
    at = trade(1)
    expected = OpenInterest("bybit", "BTC/USD:BTC", at.time, at.received_at, "12.5")
    assert decode("open_interest", old) == expected


def test_an_open_interest_may_be_a_value_only() -> None:
    record = OpenInterest("bybit", "BTC/USD:BTC", trade(1).time, trade(1).received_at, None, "1500000", None, "quote")
    data = json.loads(encode(record))["data"]
    assert (data["open_interest"], data["open_interest_usd"], data["unit"]) == (None, "1500000", "quote")
    assert decode("open_interest", encode(record)) == record


@pytest.mark.parametrize("unit", ["quote", "0.01 base", "unknown"])
def test_a_contract_says_what_it_counts(unit: str) -> None:
    contract = trade(1, unit=unit)
    value = encoder_of(contract)(contract)
    assert json.loads(value)["data"]["unit"] == unit
    assert value == encode(contract)
    assert decode("trades", value) == contract


@pytest.mark.parametrize(("kind", "in_candles"), [("insurance_fund", False), ("rpi", True), (None, False)])
def test_a_marked_trade_says_so(kind: str | None, in_candles: bool) -> None:
    marked = trade(1, kind=kind, in_candles=in_candles)
    value = encoder_of(marked)(marked)
    data = json.loads(value)["data"]
    assert (data["kind"], data["in_candles"]) == (kind, in_candles)
    assert value == encode(marked)
    assert decode("trades", value) == marked


def test_a_books_levels_are_pairs_of_text_best_first() -> None:
    data = json.loads(encode(book(1)))["data"]
    assert data["bids"] == [["64000.10", "1.50"], ["64000.00", "2"]]
    assert (data["sequence"], data["valid"]) == (1, True)


def test_topics_and_keys() -> None:
    assert topic_name("wolfinch", topic_kind(trade(1))) == "wolfinch.market.trades"
    assert key(trade(1, symbol="BTC/USDT:USDT")) == b"binance:BTC/USDT:USDT"
    assert set(envelope.topics("w")) == {f"w.market.{name}" for name in (*CHANNELS, "gaps", "rejected")}
    assert set(TOPIC_KINDS) == set(envelope.topics("w").values())


def test_a_rejected_records_absurd_time_is_kept_as_a_number() -> None:
    record = Rejected("x", "y", -5, 1_000_000, "trades", "time_missing", "{}")
    document = json.loads(encode(record))
    assert (document["timestamp"], document["data"]["time"]) == ("1970-01-01T00:00:01.000000Z", -5)
    assert decode("rejected", encode(record)) == record


GOOD = json.loads(encode(trade(1)))


def changed(**data: object) -> bytes:
    return json.dumps({**GOOD, "data": {**GOOD["data"], **data}}).encode()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "invalid"),
        (b"[]", "object"),
        (b"[" * 100_000, "TRADE"),
        (b'{"event_type": "TRADE"}', "timestamp"),
        (json.dumps({**GOOD, "event_type": "TICK"}).encode(), "TICK"),
        (json.dumps({**GOOD, "more": 1}).encode(), "more"),
        (json.dumps({**GOOD, "timestamp": "yesterday"}).encode(), "yesterday"),
        (changed(more=1), "more"),
        (changed(price=64000.1), "price"),
        (changed(price="1\t2"), "price"),
        (changed(price="1\n"), "price"),
        (changed(price="NaN"), "price"),
        (changed(price="\u0661"), "price"),
        (changed(price=None), "price"),
        (changed(side="BUY"), "side"),
        (changed(seq="1"), "seq"),
        (changed(time="2026-02-30T14:13:20.000001Z"), ""),
        (changed(time="2026-09-21T14:13:20.000001+"), "2026"),
        (changed(time="2026-09-21T14:13:20Z"), "2026"),
        (changed(time="2026-09-21 14:13:20.000001Z"), "2026"),
        (changed(time="2026-09-21T14:13:20.00000\u0661Z"), "2026"),
        (changed(time="1969-12-31T23:59:59.000000Z"), "1969"),
    ],
)
def test_anything_else_is_refused_with_a_reason(value: bytes, says: str) -> None:
    with pytest.raises(EnvelopeError, match="not a TRADE message") as caught:
        decode("trades", value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "level", [["1", "x"], ["1 2", "3"], ["", "1"], ["1"], ["1", "2", "3"], [1, 2], "12", ["1", "2\t"]]
)
def test_a_level_that_is_no_pair_of_decimals_is_refused(level: object) -> None:
    document = json.loads(encode(book(1)))
    document["data"]["asks"].append(level)
    with pytest.raises(EnvelopeError, match="not a ORDER_BOOK message"):
        decode("order_book", json.dumps(document).encode())


@given(st.binary(max_size=60) | st.dictionaries(texts, texts).map(lambda it: json.dumps(it).encode()))
def test_noise_raises_nothing_else(value: bytes) -> None:
    for kind in TOPIC_KINDS:
        with pytest.raises(EnvelopeError):
            decode(kind, value)


@given(st.text("0123456789abcdef", min_size=1), st.integers(0), st.integers(0))
def test_a_position_reads_back(journal_id: str, position: int, index: int) -> None:
    assert parse_position(position_header(journal_id, position, index)) == (journal_id, position, index)


@pytest.mark.parametrize("header", [b"", b"a:1", b"a:1:2:3", b":1:2", b"a:-1:2", b"a:x:2", b"a:1:", b"\xff:1:2"])
def test_another_position_is_refused(header: bytes) -> None:
    with pytest.raises(EnvelopeError, match="ingestd-position"):
        parse_position(header)


def test_the_sides_of_an_empty_tick_stay_empty() -> None:
    record = tick(1, bid_price=None, bid_volume=None)
    assert decode("ticks", encode(record)) == record
