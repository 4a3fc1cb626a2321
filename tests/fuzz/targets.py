"""What is fuzzed: each target takes bytes and raises when the code under test does what it must not.

The same targets run under Hypothesis (`test_fuzz.py`, in every run of the tests) and under atheris (`make fuzz`, for
as long as one likes). A target knows what must come out: the same record again, a refusal with a reason, or one of the
batches that were written; never another error, never a wrong record.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import shutil
import tempfile
import tomllib
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec

from ingestd import validation
from ingestd.channels import TABLE_OF
from ingestd.config import dsn as config_dsn
from ingestd.config import secrets
from ingestd.config.loading import parse
from ingestd.config.models import FeedConfig, JournalConfig
from ingestd.errors import ConfigError, EnvelopeError, JournalVersion, Problem
from ingestd.events.messages import read_event
from ingestd.feeds.ccxt.feed import CcxtFeed
from ingestd.feeds.ccxt.records import market_info
from ingestd.feeds.ccxt.tap import make_exchange
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.markets.listing import Choice, ListingDoubts
from ingestd.journal.journal import Journal
from ingestd.kafka import envelope
from ingestd.kafka.messages import Message
from ingestd.ops.metrics import Metrics
from ingestd.records import FeedGap, MarketRecord, Record, decode_batch, encode_batch
from ingestd.sources.marks import journal_place
from ingestd.status import StreamStatus
from ingestd.storage.symbols import columns_of
from ingestd.venues.all import facts_of
from ingestd.venues.messages import BookChange, FrameNumber, Notice
from tests.fuzz.book_history import VENUES as BOOK_HISTORIES
from tests.fuzz.book_history import BookHistory
from tests.fuzz.fetches import KINDS, read_fetch
from tests.fuzz.id_history import IdHistory
from tests.fuzz.place_history import PlaceHistory
from tests.fuzz.wire import judge_frames, judge_headers, judge_reply
from tests.support import libpq
from tests.support.batches import old_message, pack, sound
from tests.support.documented_frames import DOCUMENTED, documented
from tests.support.list_venue import SPOT_ONLY
from tests.support.records import NOW_US, book, copy_lines, tick, trade
from tests.support.topics import position_header
from tests.unit.feeds.doubles import market

SYMBOL = "BTC/USDT"
_EVENTS = ("ORDER_SUBMITTED", "ORDER_EXECUTED", "TRADE_COMPLETED")
_NOW = datetime(2026, 9, 21, tzinfo=UTC)


class _Taken:
    """An intake that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[MarketRecord | FeedGap] = []

    def put(self, record: MarketRecord | FeedGap) -> None:
        self.records.append(record)

    @property
    def is_blocked(self) -> bool:
        return False

    async def writable(self) -> None:
        """There is always room."""


def ccxt_update(data: bytes) -> None:
    """A venue's update, as ccxt's unified dict with any values: records that can be journaled and stored, or none."""
    update = _json(data)
    if not isinstance(update, dict):
        return
    taken = _Taken()
    channels = ["trades", "ticks", "order_book", "funding", "open_interest", "candles"]
    config = FeedConfig.model_validate({"exchange": "binance", "symbols": [SYMBOL], "channels": channels})
    reader = TapReader(config, taken)
    for channel in config.channels:
        reader.ledger.add_stream(channel, SYMBOL)
    reader.on_trade(SYMBOL, update, NOW_US)
    reader.on_bid_ask(SYMBOL, update, NOW_US)
    reader.on_ticker(SYMBOL, update, NOW_US)
    reader.on_funding(SYMBOL, update, NOW_US)
    reader.on_returned("open_interest", [SYMBOL], [{**update, "symbol": SYMBOL}], NOW_US)
    reader.on_book({"symbol": SYMBOL, "bids": [], "asks": [], **update}, NOW_US)
    reader.recorder.sample_books()
    rows = update.get("rows")
    if isinstance(rows, list):
        reader.on_returned("candles", [SYMBOL], [row for row in rows if isinstance(row, list)], NOW_US)
    for record in taken.records:
        _check_storable(record)


def _check_storable(record: MarketRecord | FeedGap) -> None:
    assert not isinstance(record, FeedGap), record
    window = validation.time_window(NOW_US, 60, {})
    reason = validation.rejection_reason(record, window)
    kept: Record = record if reason is None else validation.rejection(record, TABLE_OF[type(record)], reason)
    assert decode_batch(encode_batch([kept])) == [kept]
    (line,) = copy_lines([kept])
    assert line.count("\n") == 1
    line.encode()


def native_frame(exchange: str, data: bytes) -> None:
    """Frames of one socket, a line each: refused with a ValueError, or what can be journaled and stored."""
    make = facts_of(exchange).native
    assert make is not None
    symbols = documented(exchange).symbols
    decode = make({}).decoder(symbols, NOW_US)
    for frame in data.split(b"\n"):
        try:
            messages = decode(frame, NOW_US)
        except ValueError:
            continue
        for message in messages:
            if isinstance(message, BookChange):
                assert message.symbol in symbols.values()
                assert all(isinstance(text, str) for row in (*message.bids, *message.asks) for text in row[:2])
                assert all(len(row) >= 2 for row in (*message.bids, *message.asks))
            elif not isinstance(message, Notice | FrameNumber):
                assert message.exchange == exchange
                assert message.symbol in symbols.values()
                _check_storable(message)


def id_series(data: bytes) -> None:
    """Trades of a venue that numbers them without holes, and what befalls them, a byte each: see `IdHistory`."""
    IdHistory().play(data)


def books_after_cut(data: bytes) -> None:
    """A venue's frames, and cuts between them: what is stored as valid is its book, whole from that socket."""
    if data:
        asyncio.run(_play_book(data[0], data[1:]))


async def _play_book(venue: int, data: bytes) -> None:
    history = BookHistory(venue)
    try:
        history.play(data)
    finally:
        await history.life.wire.close()


def batch(data: bytes) -> None:
    """A journal's payload: records, or DecodeError; what is read is written again as it was understood."""
    try:
        records = decode_batch(data)
    except msgspec.DecodeError:
        return
    try:
        again = encode_batch(records)
    except (UnicodeEncodeError, OverflowError):
        return
    assert decode_batch(again) == records


def kafka_message(data: bytes) -> None:
    """A message on any market topic: a record that is written and read again as itself, or EnvelopeError."""
    for kind in envelope.TOPIC_KINDS:
        try:
            record = envelope.decode(kind, data)
        except EnvelopeError:
            continue
        assert envelope.decode(kind, envelope.encode(record)) == record
        envelope.key(record)


def kafka_position(data: bytes) -> None:
    """The header that says where a message came from."""
    try:
        position = envelope.parse_position(data)
    except EnvelopeError:
        return
    assert envelope.parse_position(position_header(*position)) == position
    assert position_header(*position) == data
    place = journal_place(Message("topic", 0, 0, None, None, [(envelope.POSITION_HEADER, data)]))
    if place is not None:
        assert place[0].isprintable(), "a database and a terminal take it"
        assert len(place[0]) <= 64
        assert 0 <= place[1] < 2**63


def kafka_places(data: bytes) -> None:
    """A daemon among forgers: none of its records is lost or doubled but by a place that could be its own."""
    PlaceHistory().play(data)


def compressed_batch(data: bytes) -> None:
    """What a broker may answer to a fetch, sound or not: see `read_fetch`."""
    read_fetch(data)


def trading_event(data: bytes) -> None:
    """A message of a trading program: an event with the same data, or EnvelopeError."""
    for kind in _EVENTS:
        try:
            event = read_event(kind, data, (), _NOW)
        except EnvelopeError:
            continue
        assert json.loads(event.data) == json.loads(data)["data"]
        assert read_event(kind, data, (), _NOW).id == event.id


def configuration(data: bytes) -> None:
    """A file somebody wrote: a configuration, or every mistake in it with its place."""
    try:
        document = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        return
    config_document(document)


def config_document(document: dict[str, Any]) -> None:
    problems: tuple[Problem, ...] = (Problem("x", "it is a configuration"),)
    try:
        parse(document, {})
    except ConfigError as error:
        problems = error.problems
    assert problems
    assert all(problem.path and problem.message for problem in problems)


def _without_empty_lists(parameters: dict[str, str]) -> dict[str, str]:
    """Hosts or ports that are all left out ("", ",") are the default ones, as none are."""
    return {name: value for name, value in parameters.items() if name not in ("host", "port") or value.strip(",")}


def dsn(data: bytes) -> None:
    """A connection string: read as libpq reads it, or refused; its password shown in neither case."""
    text = data.decode(errors="replace")
    secrets.hidden.clear()
    shown = config_dsn.shown(text)
    parameters = _parameters_of(text)
    if parameters is None:
        assert shown == "***"
        return
    if re.match(r"\s*[a-z]*[A-Z]|.*(database|servicefile)", text, re.DOTALL) is None and "\0" not in text:  # ours alone
        theirs = libpq.parsed(text.strip(" \t\n\r\f\v"))
        assert theirs is not None
        assert _without_empty_lists(parameters) == _without_empty_lists(theirs)
    again = config_dsn.read(config_dsn.render(parameters))
    assert again == {name: value for name, value in _without_empty_lists(parameters).items() if value}
    secret = parameters.get("password", "")
    others = "".join(value for name, value in parameters.items() if name != "password")
    assert len(secret) < 4 or secret in others + "postgresql://password" or secret not in shown


def _parameters_of(text: str) -> dict[str, str] | None:
    try:
        return config_dsn.read(text)
    except ConfigError:
        return None


def journal_file(data: bytes) -> None:
    """A journal file with some bytes overwritten, cut or added: its batches, in order, and nothing else.

    Where one is missing, the damaged file is kept aside.

    The first three bytes say where, the fourth what; the rest is written there.
    """
    if len(data) < 4:
        return
    sound, batches = _sound_journal()
    at = int.from_bytes(data[:3], "big") % len(sound)
    action = data[3] % 3
    damaged = sound[:at] if action == 0 else sound[:at] + data[4:] + sound[at + (len(data) - 4) * (action == 1) :]
    with tempfile.TemporaryDirectory(prefix="ingestd-fuzz-") as folder:
        directory = Path(folder) / "journal"
        directory.mkdir()
        (directory / "00000001-0123456789abcdef.journal").write_bytes(damaged)
        try:
            read = asyncio.run(_read(Path(folder), len(batches)))
        except JournalVersion:
            return
        kept_aside = (directory / "bad").exists()
    known = {tuple(records): index for index, records in enumerate(batches)}
    places = [known.get(tuple(records)) for records in read]
    assert None not in places, "a batch that nobody wrote"
    assert places == sorted(set(places), key=places.index) == sorted(place for place in places if place is not None)
    assert len(places) == len(batches) or kept_aside, "a batch is missing, and nothing says so"


async def _read(state_dir: Path, at_most: int) -> list[list[Record]]:
    journal = Journal(state_dir, JournalConfig(), Metrics())
    journal.open()
    try:
        cursor = journal.cursor("reader")
        found: list[list[Record]] = []
        while batches := await cursor.read(1):
            found += [batch.records for batch in batches]
            assert len(found) <= at_most, "batches are read again and again"
        return found
    finally:
        journal.close()


@cache
def _sound_journal() -> tuple[bytes, list[list[Record]]]:
    """The bytes of a journal file and the batches in it."""
    batches: list[list[Record]] = [
        [*(trade(10 * number + index) for index in range(8)), tick(number), book(number)] for number in range(1, 30)
    ]
    folder = Path(tempfile.mkdtemp(prefix="ingestd-fuzz-"))
    try:

        async def write() -> None:
            journal = Journal(folder, JournalConfig(), Metrics())
            journal.open()
            journal.cursor("nobody")
            for records in batches:
                await journal.append(records)
            journal.close()

        asyncio.run(write())
        (path,) = (folder / "journal").glob("*.journal")
        return path.read_bytes(), batches
    finally:
        shutil.rmtree(folder)


_LISTED = ("BTC/USDT:USDT", "ETH/USDT:USDT", "XRP/USDT:USDT", "BTC/USDT:USDT-991225")
_WANTED = (_LISTED[0], "*/USDT:USDT*")
_HOUR_US = 3_600_000_000


def market_list(data: bytes) -> None:
    """One list of a venue's markets after the other; a byte says of one market how the next list has it. Whatever the
    lists say, what was followed is followed until its contract has expired, and every reason to doubt it is told once.
    """
    exchange = make_exchange("binanceusdm", TapReader(FeedConfig(exchange="binanceusdm", symbols=[SYMBOL]), _Taken()))
    exchange.set_markets([_market(exchange, symbol, 0) for symbol in _LISTED])
    feed = CcxtFeed(FeedConfig(exchange="binanceusdm", symbols=list(_WANTED), channels=["trades"]))
    with mock.patch("ingestd.feeds.ccxt.feed.CcxtSession", return_value=_Listing(feed, exchange, data)):
        asyncio.run(feed.run(_Taken()))


class _Listing:
    """In the place of a feed's session: its lists of markets are these, and what is chosen of them is judged."""

    markets = SimpleNamespace(load=mock.AsyncMock(return_value=True), are_old=False)

    def __init__(self, feed: CcxtFeed, exchange: Any, data: bytes) -> None:
        self.feed = feed
        self.exchange = exchange
        self.data = data
        self.closing: asyncio.Task[None] | None = None

    async def run(self, choose: Callable[[], Choice]) -> None:
        _judge_choices(self.exchange, self.data, choose)
        self.closing = asyncio.create_task(self.feed.close())
        await asyncio.sleep(0)  # it has begun

    async def close(self) -> None:
        """Nothing is open."""

    def stop(self) -> None:
        """It has ended."""


def _judge_choices(exchange: Any, data: bytes, choose: Callable[[], Choice]) -> None:
    doubts, streams = ListingDoubts(), {symbol: StreamStatus("trades", symbol) for symbol in _LISTED}
    states = dict.fromkeys(_LISTED, 0)
    followed: set[str] = set()
    told: set[str] = set()
    for hour, byte in enumerate(data[:60]):
        states[_LISTED[byte % len(_LISTED)]] = byte // 4 % 4
        now = NOW_US + hour * _HOUR_US
        if byte >= 128:
            streams[_LISTED[byte // 32 % len(_LISTED)]].last_received_at = now
        exchange.followed = {symbol: exchange.markets[symbol] for symbol in followed}
        listed = [_market(exchange, symbol, state) for symbol, state in states.items() if state != 1]
        if not listed:
            continue  # the venue is not there, or it is its maintenance: the request fails
        exchange.set_markets(listed)
        choice = choose()
        judgement = doubts.judge(choice, streams.values(), now)
        assert followed <= set(choice.symbols), "a list ended a stream"
        assert set(choice.symbols) <= set(exchange.markets)
        assert {exchange.markets[symbol]["symbol"] for symbol in choice.symbols} == set(choice.symbols)
        told.difference_update(judgement.back)
        assert not told & judgement.doubtful.keys(), "told twice"
        told |= judgement.doubtful.keys()
        gone = {symbol for symbol in followed if states[symbol] == 2}
        assert gone <= told | set(choice.closed), "a market is closed, and nothing says so"
        followed = set(choice.symbols)


def _market(exchange: Any, symbol: str, state: int) -> dict[str, Any]:
    """0: as it is; 2: closed; 3: under another id."""
    expiry = int(datetime(2099, 12, 25, tzinfo=UTC).timestamp()) * 1000 if "-" in symbol else None
    changes = {"active": state != 2, "expiry": expiry, "swap": expiry is None, "future": expiry is not None}
    base = symbol.partition("/")[0]
    return market(exchange, symbol, f"{base}USDT{'-2' * (state == 3)}{'_991225' * (expiry is not None)}", **changes)


def fragments(data: bytes) -> None:
    """Frames of a socket, a byte each or some hundreds."""
    judge_frames(data)


def rest_reply(data: bytes) -> None:
    """The body of a reply, as it comes in; and what is in it, read as the exchange library does."""
    judge_reply(data)
    _any_exchange().parse_json(data.decode(errors="replace"))


@cache
def _any_exchange() -> Any:
    return make_exchange("binance", TapReader(FeedConfig(exchange="binance", symbols=[SYMBOL]), _Taken()))


def http_headers(data: bytes) -> None:
    """A line for `Retry-After`, the rest for `Location`."""
    judge_headers(data)


LISTING = ("binance", "bybit", "okx", "gate", "kucoin", "mexc", "htx", "bingx", "poloniex", "lbank")


@cache
def _listing_exchange(name: str) -> Any:
    exchange = make_exchange(name, TapReader(FeedConfig(exchange=name, symbols=[SYMBOL]), _Taken()))
    exchange.enableRateLimit = False
    return exchange


def market_answer(data: bytes) -> None:
    """A venue's list with one more entry in it, whose fields the document replaces: the first byte says of which venue.
    The sound market is always there, and of every other one there is a row that the database takes."""
    name, entry = LISTING[(data or b"\0")[0] % len(LISTING)], _json(data[1:])
    part, body = SPOT_ONLY[name]
    body = json.loads(json.dumps(body))
    entries = body
    while isinstance(entries, dict):
        entries = next(value for value in entries.values() if isinstance(value, (dict, list)))
    another = json.loads(json.dumps(entries[0]).replace("BTC", "XYZ").replace("btc", "xyz"))
    entries.insert(0, {**another, **entry} if isinstance(entry, dict) else entry)
    exchange, text = _listing_exchange(name), json.dumps(body)

    async def fetch(url: str, *_: object) -> Any:
        if part.partition("=")[2] in url.replace("%2F", "/") and part.rpartition("/")[2] in url:
            return exchange.on_json_response(text)
        raise exchange.unreachable

    exchange.unreachable, exchange.fetch = OSError("cut"), fetch
    exchange.reloading_markets, exchange.markets_loading = False, None  # of an earlier example's loop, which is gone
    asyncio.run(exchange.load_markets(True))
    infos = [market_info(name, market) for market in exchange.markets.values()]
    assert SYMBOL in {info.symbol for info in infos}, "the sound market is gone"
    for info in infos:
        for column in columns_of(info, info.market_id):
            assert not isinstance(column, str) or (len(column) <= 1600 and "\0" not in column and column.encode())
            assert not isinstance(column, Decimal) or (column.is_finite() and abs(column.adjusted()) < 100)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def seeds(target: str) -> list[bytes]:
    """Sound inputs to begin with."""
    records: list[Record] = [trade(1), tick(2), book(3)]
    order = {"order_id": "1", "symbol": SYMBOL, "side": "BUY", "quantity": "1", "executed_price": "2"}
    known: dict[str, list[bytes]] = {
        "ccxt_update": [b'{"price": "64000.10", "amount": "1", "timestamp": 1790000000000, "bids": [["1", "2"]]}'],
        # Steps of 3 from the start and after a while; holes in a third of the steps; cut again and again.
        "id_series": [
            b"\xfe\xfe\xfe\xfe\xff",
            b"\xfc\xfc\xfe\xfe\xfe\xfe\x3f",
            b"\x04\x01" * 200,
            b"\x40\x04" * 40 + b"\x43\x04" * 40,
        ],
        # A message, one in two frames with a ping between, one in hundreds of nothing, a flood of pongs.
        "fragments": [b"\x08", b"\x09\x04\x03", b"\x01\x06\x03\x00", b"\x07\x07\x00"],
        "rest_reply": [
            b"\x00\xff{}",
            b"\x02\x01" + gzip.compress(b"{}"),
            b"\x02\x10" + gzip.compress(b" " * 10_000),
            b"\x01\x01" + zlib.compress(b"[]"),
            b"\x00\xff" + b"[" * 3000,
        ],
        "http_headers": [b"1\n/v2", b"1e308\nhttps://other.example/", b"Fri, 31 Dec 9999 23:59:59 GMT\n//other"],
        "market_answer": [bytes([venue]) + b"{}" for venue in range(len(LISTING))],
        "market_list": [bytes([0, 4, 0x84, 0]), bytes([1, 9, 5, 0x85, 1])],
        # Of each venue: a book, a change, a cut, a change, a smaller book, another cut, the same book, late changes.
        "books_after_cut": [
            bytes(
                [venue, 0, 0x0F, 0xF0, 2, 0x13, 5, 2, 0x33, 0, 0x01, 0xC0, 2, 0x20, 6, 0x13, 0, 0x01, 0xC0, 7, 1, 2, 3]
            )
            for venue in range(len(BOOK_HISTORIES))
        ],
        "batch": [encode_batch([record]) for record in records],
        "kafka_message": [envelope.encode(record) for record in records],
        "kafka_position": [position_header("0123456789abcdef", 17, 3)],
        # The daemon publishes, sends again, is forged far ahead and nearby, its reader restarts, it goes on.
        "kafka_places": [bytes([0, 1, 1] * 5 + [130, 3, 0, 161, 255, 43, 162, 9, 9, 250, 0, 0, 0, 1, 1, 140, 9, 0])],
        "compressed_batch": [
            *(bytes([kind + len(KINDS) * 5]) + b"a value of sorts" * 9 for kind in range(len(KINDS))),
            *(bytes([kind + len(KINDS) * 2]) + bytes(900) for kind in range(len(KINDS))),
            *(bytes([kind + len(KINDS)]) + pack(name, bytes(10**6)) for kind, name in enumerate(KINDS) if kind),
            bytes([len(KINDS) * 3]) + old_message(0, b"x"),
            bytes([len(KINDS) * 4]) + b"\x08\xff\x17\x01",
            b"\x00" + sound(0, [b"a", b"b"]),
        ],
        "trading_event": [json.dumps({"event_type": kind, "data": order}).encode() for kind in _EVENTS],
        "configuration": [b'[instance]\nname = "a"\n[intake]\nlinger_ms = 5\n'],
        "dsn": [
            b"postgresql://u:p%40ss@a,[::1]:5433/db?sslmode=require&passwor%64=secret",
            b"host=h port=5432 user=u password='a \\' b' dbname=db target_session_attrs=read-write",
        ],
        "journal_file": [
            b"\x00\x10\x00\x01\x00\x00\x00\x00",
            # These lead a walk over the file back to where it was.
            bytes.fromhex("0064c302ff501559624b4c6265b2da83fc6470d8"),
            bytes.fromhex("0054aa0287c576e9867992a82283d71494ccf8c2"),
            # A column of another name in the schema, and a text that is none.
            bytes.fromhex("000f1201ef8f9196"),
            bytes.fromhex(
                "00718201343f2abdff38e408b26fa81e020a07c6d12475ec251d6dde2e352dd68d3c0e9a8c5c6835081959e35f80ed4e"
                "12089412913b65486472fd5724da8a9ad920693a10bf86341cfe1e195bb0e368f96e8567e14258e24e6979def2a2d8eb"
                "6dc5b4ae1a1d71ab"
            ),
        ],
        **{f"native_{exchange}": documented(exchange).frames for exchange in DOCUMENTED},
    }
    return known[target]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "ccxt_update": ccxt_update,
    "id_series": id_series,
    "market_list": market_list,
    "fragments": fragments,
    "rest_reply": rest_reply,
    "http_headers": http_headers,
    "market_answer": market_answer,
    "books_after_cut": books_after_cut,
    "batch": batch,
    "kafka_message": kafka_message,
    "kafka_position": kafka_position,
    "kafka_places": kafka_places,
    "compressed_batch": compressed_batch,
    "trading_event": trading_event,
    "configuration": configuration,
    "dsn": dsn,
    "journal_file": journal_file,
    **{f"native_{exchange}": partial(native_frame, exchange) for exchange in DOCUMENTED},
}
