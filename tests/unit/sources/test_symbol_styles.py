"""Messages in every style of symbols become the records they were made of, for tables in every style."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from ingestd.channels import count_channels
from ingestd.config.values import SymbolStyle
from ingestd.journal.journal import Batch
from ingestd.kafka import envelope
from ingestd.kafka.messages import Message
from ingestd.ops.metrics import Metrics
from ingestd.records import FeedGap, Record, Rejected
from ingestd.sinks.kafka.flush import Preparer
from ingestd.sources.market_topics import MarketStore
from ingestd.status import MarketInfo
from ingestd.storage.writer.writer import prepare
from ingestd.validation import TimeWindow
from ingestd.venues.market_names import KnownMarkets, Names
from tests.support.records import NOW_US, book, tick, trade

STYLES = get_args(SymbolStyle)
SPOT, PERPETUAL = "BTC/USDT", "BTC/USDT:USDT"
LISTED = [
    MarketInfo("binance", SPOT, "BTCUSDT", "BTC", "USDT", "spot", True),
    MarketInfo("binance", PERPETUAL, "BTCUSDT", "BTC", "USDT", "swap", True, linear=True),
]
SENT = {
    "unified": (SPOT, PERPETUAL),
    "compact": ("BTCUSDT", "BTCUSDT.P"),
    "dash": ("BTC-USDT", "BTC-USDT.P"),
    "venue": ("BTCUSDT", "BTCUSDT.P"),
}
RECORDS: list[Record] = [
    record
    for symbol in (SPOT, PERPETUAL)
    for record in (
        trade(1, symbol=symbol),
        trade(2, symbol=symbol, price="1e-7", kind="block", in_candles=False),
        tick(1, symbol=symbol),
        book(1, symbol=symbol),
        FeedGap("binance", symbol, NOW_US, NOW_US, channel="trades", cause="restart", ended_at=None),
    )
]


def messages(style: SymbolStyle, records: list[Record], listed: list[MarketInfo]) -> list[Message]:
    preparer = Preparer("p", 1_000_000, Names(style, KnownMarkets(lambda: listed)), keep_rejected=False)
    batch = Batch("ab", 1, 0, count_channels(records), records, 0, 1)
    flush = preparer.prepare([batch], dict.fromkeys(preparer.topics, 1))
    return [
        Message(chain.topic, 0, offset, key, value, headers)
        for chain in flush.chains
        for offset, (_, key, value, headers) in enumerate(chain.messages)
    ]


def store(sent: SymbolStyle, stored: Names) -> MarketStore:
    return MarketStore(
        "p", lambda _now: TimeWindow({}, 10**16), Metrics(), sent=Names(sent, stored.known), stored=stored
    )


@pytest.mark.parametrize("sent", STYLES)
def test_keys_and_values_have_the_name_of_the_style(sent: SymbolStyle) -> None:
    made = messages(sent, RECORDS, LISTED)
    assert len(made) == len(RECORDS)
    assert {message.key for message in made} == {f"binance:{name}".encode() for name in SENT[sent]}
    kinds = envelope.topics("p")
    assert {envelope.decode(kinds[message.topic], message.value or b"").symbol for message in made} == set(SENT[sent])
    headers = [dict(message.headers) for message in made]
    assert all((envelope.SYMBOL_HEADER in header) == (sent != "unified") for header in headers)


@pytest.mark.parametrize("sent", STYLES)
@pytest.mark.parametrize("stored", STYLES)
def test_what_is_read_is_what_was_sent_and_is_stored_in_the_tables_style(
    sent: SymbolStyle, stored: SymbolStyle
) -> None:
    names = Names(stored, KnownMarkets(lambda: LISTED if sent != "venue" else []))  # else it learns from the messages
    reader = store(sent, names)
    items = reader.read(messages(sent, RECORDS, LISTED))
    assert sorted((item.content for item in items), key=str) == sorted(RECORDS, key=str)
    assert {item.rejected for item in items} == {None}
    tables = prepare([], [item.content for item in items], names).tables
    for table, rows in tables.items():
        place = 1 if table == "feed_gaps" else 2
        assert {line.split(b"\t")[place].decode() for line in rows.payload.splitlines()} == set(SENT[stored])


@pytest.mark.parametrize("sent", ["compact", "dash"])
def test_messages_of_other_programs_need_no_header(sent: SymbolStyle) -> None:
    bare = [
        Message(*(getattr(one, name) for name in ("topic", "partition", "offset", "key", "value")))
        for one in messages(sent, RECORDS, LISTED)
    ]
    items = store(sent, Names("unified")).read(bare)
    assert sorted((item.content for item in items), key=str) == sorted(RECORDS, key=str)


@pytest.mark.parametrize(("header", "reason"), [(b"\xff", "poison"), (b"x" * 2000, "text"), (b"\x07", "text")])
def test_a_forged_header_costs_its_message_only(header: bytes, reason: str) -> None:
    (message,) = messages("compact", [trade(1)], LISTED)
    forged = Message("p.market.trades", 0, 1, b"k", message.value, [(envelope.SYMBOL_HEADER, header)])
    bad, good = store("compact", Names("dash")).read([forged, message])
    assert bad.rejected == reason
    assert good.content == trade(1)


def test_a_market_without_a_name_is_sent_as_a_rejection() -> None:
    sent = messages("venue", [trade(1), trade(2, symbol="NEW/USDT")], LISTED)
    by_topic = {message.topic: message for message in sent}
    assert set(by_topic) == {"p.market.trades", "p.market.rejected"}
    rejected = envelope.decode("rejected", by_topic["p.market.rejected"].value or b"")
    assert (rejected.symbol, getattr(rejected, "reason", "")) == ("NEW/USDT", "unknown_market")


@pytest.mark.parametrize("sent", STYLES)
def test_messages_of_before_the_style_was_changed_keep_their_symbols(sent: SymbolStyle) -> None:
    """They have unified symbols and no header for them, and may still wait in the topic."""
    items = store(sent, Names("unified")).read(messages("unified", RECORDS, LISTED))
    assert sorted((item.content for item in items), key=str) == sorted(RECORDS, key=str)


def bare(record: Record) -> Message:
    """The message of a program that knows no headers."""
    return Message(f"p.market.{envelope.topic_kind(record)}", 0, 1, b"k", envelope.encode(record))


@pytest.mark.parametrize(
    ("sent", "name", "symbol"),
    [
        ("unified", "BTCUSDT", "BTCUSDT"),  # nobody can tell
        ("compact", "BTCUSDT.P", PERPETUAL),
        ("compact", PERPETUAL, PERPETUAL),
        ("compact", "B-T.C", None),
        ("dash", "BTC-USDT", SPOT),
        ("dash", "BTCUSDT", None),
        ("venue", "BTCUSDT.P", PERPETUAL),
        ("venue", "NEWUSDT", None),
        ("venue", "NEW/USDT", "NEW/USDT"),
    ],
)
def test_a_name_that_no_market_has_is_not_guessed(sent: SymbolStyle, name: str, symbol: str | None) -> None:
    reader = store(sent, Names("unified", KnownMarkets(lambda: LISTED)))
    (item,) = reader.read([bare(trade(1, symbol=name))])
    assert item.rejected == (None if symbol is not None else "unknown_market")
    if symbol is not None:
        assert item.content == trade(1, symbol=symbol)
    else:
        assert isinstance(item.content, Rejected)
        assert json.loads(item.content.record)["symbol"] == name


@pytest.mark.parametrize(("style", "unit"), [("unified", "\\N"), ("compact", "unknown"), ("dash", "unknown")])
def test_a_contract_that_does_not_say_what_it_counts_does_not_count_the_base_currency(
    style: SymbolStyle, unit: str
) -> None:
    """In the unified style its symbol says that it is a contract (`ingestd_counted_base`), in others nothing does."""
    cases = {
        trade(1): "\\N",
        trade(2, symbol=PERPETUAL): "\\N",
        trade(3, exchange="okx"): "\\N",
        trade(4, exchange="okx", symbol=PERPETUAL, unit="0.1 base"): "base",
        trade(5, exchange="okx", symbol=PERPETUAL): unit,
        trade(6, symbol="BTC/USD:BTC"): unit,
    }
    rows = prepare([], [*cases, trade(7, kind="block")], Names(style)).tables["trades"]
    columns = [line.split("\t") for line in rows.payload.decode().splitlines()]
    found = {line[3]: line[-1] for line in columns}
    assert found == {**{record.trade_id: expected for record, expected in cases.items()}, "7": "\\N"}
