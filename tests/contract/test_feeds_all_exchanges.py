"""Every exchange ccxt can stream can be tapped: by what its classes do when made, and by what their source says.

The table in docs/adding-an-exchange.md is written from here: `INGESTD_WRITE_TABLE=1 pytest <this file>`.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestd.feeds.ccxt import channels
from ingestd.feeds.ccxt.tap import exchange_ids, features, make_exchange, tapped_class
from ingestd.feeds.ccxt.tap_state import STORES, Tap
from ingestd.feeds.ccxt.tapped_client import TappedClient
from ingestd.feeds.ccxt.tapped_stores import TappedStore
from ingestd.feeds.ccxt.venue_hosts import why_not_the_venues
from ingestd.records import CHANNELS, Channel
from ingestd.venues.all import FACTS, facts_of
from ingestd.venues.exact import ExactFloat
from tests.support.ccxt_requests import MARKET_TYPES

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding-an-exchange.md"

READING_CALLS = {"safe_value", "safe_dict", "filter_by_array", "filter_by_array_tickers", "resolve"}

# The code changes an update after it has stored it. Read and found harmless, each for the reason given.
CHANGED_AFTER_STORED = {
    ("gemini", "bidsasks"),  # an empty ticker gets its symbol; the filled one is stored again at the end
    ("onetrading", "tickers"),  # the exchange's time is set afterwards; its ticker has no bid and ask anyway
    ("kucoin", "orderbooks"),  # a new book gets its symbol; it is handed over when it resolves
}

# It has them of some markets only (XT's contracts, Phemex' spot), or in answers, not in its stream (CEX.IO).
NOT_OF_ALL_MARKETS = {"cex", "phemex", "xt"}

# The code shows no message; the venue's documents do.
DOCUMENTED_ELSEWHERE = {
    "blofin": "https://docs.blofin.com/index.html#ws-tickers-channel",
    "coinbaseinternational": "https://docs.deribit.com/subscriptions/market-data/quoteinstrument_name",
}

RETURNED_ONLY = {("coinbaseinternational", "funding")}  # its code writes to no store: taken from what the call returns


@pytest.mark.parametrize("exchange_id", exchange_ids())
async def test_its_stores_are_tapped_and_stay_so(exchange_id: str) -> None:
    exchange = make_exchange(exchange_id, Tap())

    assert all(isinstance(getattr(exchange, store), TappedStore) for store in STORES)
    before = exchange.trades
    exchange.clean_ws_data()
    assert exchange.trades is not before
    assert all(isinstance(getattr(exchange, store), TappedStore) for store in STORES)
    assert exchange.number is ExactFloat
    assert exchange.verbose is False


@pytest.mark.parametrize("exchange_id", exchange_ids())
async def test_its_sockets_are_tapped(exchange_id: str) -> None:
    exchange = make_exchange(exchange_id, Tap())
    exchange.open = lambda: None  # no session: nothing is dialled

    url = next(url for url in exchange.own_addresses() if url.startswith("ws"))
    client = exchange.client(url)

    assert isinstance(client, TappedClient)
    assert exchange.client(url) is client


@pytest.mark.parametrize("exchange_id", exchange_ids())
def test_every_socket_in_its_source_is_on_a_server_of_its_own(exchange_id: str) -> None:
    exchange = make_exchange(exchange_id, Tap())
    source = inspect.getsource(inspect.getmodule(_pro_classes(exchange_id)[0]))  # type: ignore[arg-type]
    for url in re.findall(r"['\"](wss?://[^'\"\s]+)['\"]", source):
        dialled = exchange.implode_hostname(url)
        assert why_not_the_venues(dialled, dialled, exchange.own_addresses(), {}) is None


@pytest.mark.parametrize("exchange_id", exchange_ids())
def test_nothing_else_of_the_venue_is_replaced(exchange_id: str) -> None:
    tapped = tapped_class(exchange_id)
    original = next(cls for cls in tapped.__mro__ if cls.__module__ == f"ccxt.pro.{exchange_id}")

    own = [name for name in vars(original) if name.islower() and not name.startswith("__")]  # not ccxt's aliases
    replaced = {name for name in own if getattr(tapped, name) is not getattr(original, name)}

    # The tap's call the venue's, but for the last two, which are ours where a venue has its own.
    calling = {"on_error", "on_close", "handle_book_delta", "handle_order_book_message"}
    assert replaced <= {*calling, "get_cache_index", "convert_from_raw_quantity"}
    assert "convert_from_raw_quantity" not in own or exchange_id == "bitrue"
    assert "get_cache_index" not in own or facts_of(exchange_id).books.numbering


@pytest.mark.parametrize("exchange_id", exchange_ids())
def test_it_writes_to_the_stores_only_in_ways_the_tap_sees(exchange_id: str) -> None:
    module = _module(exchange_id)
    for use, store in _store_uses(module):
        problem = _unseen_write(use, store, exchange_id)
        assert problem is None, f"ccxt.pro.{exchange_id} line {use.lineno}: {problem}"


@pytest.mark.parametrize("exchange_id", exchange_ids())
def test_each_channel_is_written_where_the_tap_looks(exchange_id: str) -> None:
    for channel in channels.offered_channels(exchange_id, features(exchange_id)):
        method = channels.method_for(channel, exchange_id, features(exchange_id))
        assert method is not None
        if method.polled or method.returned:
            continue
        written = _is_written(exchange_id, channel, method)
        assert written == ((exchange_id, channel) not in RETURNED_ONLY), channel


@pytest.mark.parametrize("exchange_id", exchange_ids())
def test_a_ticker_stream_has_best_prices_by_its_source(exchange_id: str) -> None:
    """The code reads a bid, from a field that the message shown beside that code has; else ticks are from books."""
    method = channels.method_for("ticks", exchange_id, features(exchange_id))
    if method is None or method.of_books or exchange_id in DOCUMENTED_ELSEWHERE:
        return
    assert _bid_fields(exchange_id) & set(re.findall(r"\w+", _comments(exchange_id))), _bid_fields(exchange_id)


@pytest.mark.parametrize("exchange_id", sorted(name for name, facts in FACTS.items() if facts.ccxt.ticks_from_books))
def test_ticks_are_from_books_only_where_the_ticker_stream_has_no_best_prices(exchange_id: str) -> None:
    shown = set(re.findall(r"\w+", _comments(exchange_id, "ticker")))
    assert not _bid_fields(exchange_id) & shown or exchange_id in NOT_OF_ALL_MARKETS


@pytest.mark.parametrize("exchange_id", exchange_ids())
def test_a_whole_book_is_known_as_one(exchange_id: str) -> None:
    """Its code empties the book, or makes it of the whole one; or we know its whole books by their frames."""
    if "order_book" not in channels.offered_channels(exchange_id, features(exchange_id)):
        return
    made = make_exchange(exchange_id, Tap())
    source = _source(exchange_id)
    handler = source.partition("def handle_order_book")[2]
    says_so = ".reset(" in handler or re.search(r"order_book\((snapshot|parsed)", source)
    assert says_so or made.book_facts.whole_book is not None or "self.load_order_book" in source


@pytest.mark.parametrize("exchange_id", exchange_ids())
def test_a_broken_book_is_announced_where_the_tap_hears_it(exchange_id: str) -> None:
    """A checksum error has the text that only these have; where the code catches nothing, the book is left standing."""
    for call in _made_in(exchange_id, "ChecksumError"):
        assert "orderbook_checksum_message" in ast.unparse(call), f"line {call.lineno}"
        raised = isinstance(call.parent, ast.Raise)  # type: ignore[attr-defined]
        stands = raised and not any(isinstance(parent, ast.Try) for parent in _parents(call))
        kept_when_broken = facts_of(exchange_id).books.kept_when_broken
        # Gate's code asks again, in a way that sends nothing.
        assert stands == (kept_when_broken and exchange_id != "gate"), f"line {call.lineno}"


def test_the_document_has_the_table_of_all_exchanges() -> None:
    head, start, rest = DOCUMENT.read_text(encoding="utf-8").partition("<!-- table -->\n")
    _, end, tail = rest.partition("<!-- end of table -->\n")
    assert start
    assert end

    if os.environ.get("INGESTD_WRITE_TABLE"):
        DOCUMENT.write_text(head + start + _table() + end + tail, encoding="utf-8")

    assert _table() in DOCUMENT.read_text(encoding="utf-8")


def _pro_classes(exchange_id: str) -> list[type[Any]]:
    return [cls for cls in tapped_class(exchange_id).__mro__ if cls.__module__.startswith("ccxt.pro.")]


@functools.cache
def _source(exchange_id: str) -> str:
    """The code for streams of the venue, and of the classes that it extends: `inspect` parses a file for each class."""
    return "\n".join(inspect.getsource(cls) for cls in _pro_classes(exchange_id))


@functools.cache
def _module(exchange_id: str) -> ast.Module:
    source = inspect.getsource(inspect.getmodule(_pro_classes(exchange_id)[0]))  # type: ignore[arg-type]
    tree = ast.parse(source)
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            child.parent = parent  # type: ignore[attr-defined]
    return tree


def _made_in(exchange_id: str, error: str) -> list[ast.Call]:
    calls = [node for node in ast.walk(_module(exchange_id)) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == error]


def _parents(node: ast.AST) -> Iterator[ast.AST]:
    while (parent := getattr(node, "parent", None)) is not None:
        yield parent
        node = parent


def _store_uses(module: ast.Module) -> Iterator[tuple[ast.Attribute, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and node.attr in STORES and ast.unparse(node.value) == "self":
            yield node, node.attr


def _unseen_write(use: ast.Attribute, store: str, exchange_id: str) -> str | None:
    """What is wrong with this use of a store, or None."""
    parent: Any = use.parent  # type: ignore[attr-defined]
    if isinstance(parent, ast.Subscript) and parent.value is use:
        return _unseen_item_write(parent, store, exchange_id)
    if isinstance(parent, ast.Call) and use in parent.args:
        called = parent.func.attr if isinstance(parent.func, ast.Attribute) else ""
        return None if called in READING_CALLS else f"handed to {called}"
    if isinstance(parent, ast.Attribute):
        return None if parent.attr == "keys" else f".{parent.attr}"
    if isinstance(parent, ast.IfExp):  # `tickers = self.bidsasks if … else self.tickers`: only read through that name
        name = parent.parent.targets[0].id  # type: ignore[attr-defined]
        return "written by another name" if _is_written_by(_function(use), name) else None
    if isinstance(parent, (ast.Compare, ast.Return)):
        return None
    if isinstance(parent, ast.Assign) and use in parent.targets:
        return None  # a new dict: the property taps it
    return f"in a {type(parent).__name__}"


def _unseen_item_write(item: ast.Subscript, store: str, exchange_id: str) -> str | None:
    parent: Any = item.parent  # type: ignore[attr-defined]
    if isinstance(item.ctx, ast.Store):
        if store == "trades" and not _is_cache(parent.value, item):
            return "stores trades that are not in a cache"
        return None if isinstance(parent, ast.Assign) else "is not a plain assignment"
    if isinstance(item.ctx, ast.Load) and isinstance(parent, ast.Subscript) and isinstance(parent.ctx, ast.Store):
        return None if (exchange_id, store) in CHANGED_AFTER_STORED else "changes an update after it was stored"
    return None


def _function(node: Any) -> Any:
    while not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        node = node.parent
    return node


def _is_cache(value: ast.expr, item: ast.Subscript) -> bool:
    """Whether the expression is an ArrayCache, or a name that is made one, or read from the store, further up."""
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).startswith("ArrayCache")
    if not isinstance(value, ast.Name):
        return False
    earlier = [n for n in ast.walk(_function(item)) if isinstance(n, ast.Assign) and n.lineno < item.lineno]
    made = [ast.unparse(n.value) for n in earlier if value.id in [ast.unparse(target) for target in n.targets]]
    return bool(made) and all("ArrayCache" in text or "self.trades" in text or text == "None" for text in made)


def _is_written_by(function: Any, name: str) -> bool:
    return any(
        isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
        for node in ast.walk(function)
    )


def _is_written(exchange_id: str, channel: Channel, method: channels.Method) -> bool:
    """Whether the venue's code, or that of the class it extends, writes to the store the tap reads."""
    source = _source(exchange_id)
    if method.of_books:
        return bool(re.search(r"self\.\w*order_book\(", source)) and "client.resolve(" in source  # seen as it resolves
    if channel == "ticks" and not method.of_books:
        from_tickers = channels.ticks_from_tickers(exchange_id, method)
        return f"self.{'tickers' if from_tickers else 'bidsasks'}[" in _assignments(source)
    return f"self.{'trades' if channel == 'trades' else 'fundingRates'}[" in _assignments(source)


def _bid_fields(exchange_id: str) -> set[str]:
    """The fields of a message that the venue's code for streams reads a bid from; a number where it is a list."""
    classes = _pro_classes(exchange_id)
    source = _source(exchange_id)
    names = [n for n in dir(classes[0]) if re.match(r"(handle|parse)_.*(ticker|bid|bbo|quote)", n)]
    found: set[str] = set()
    for name in names:
        function = inspect.unwrap(getattr(classes[0], name))
        of_streams = function.__module__.startswith("ccxt.pro.")
        if not of_streams and f"self.{name}(" not in source:
            continue
        tree = ast.parse("if 1:\n" + inspect.getsource(function))
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                values = [v for k, v in zip(node.keys, node.values, strict=True) if _constant(k) == "bid"]
                for value in values:
                    found |= _fields_read(value, tree)
    return found


def _fields_read(value: ast.expr, tree: ast.AST) -> set[str]:
    """The constants in it, or, where it is a name, in what is assigned to that."""
    constants = {str(n.value) for n in ast.walk(value) if isinstance(n, ast.Constant) and n.value is not None}
    names = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)} - {"self"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(ast.unparse(t) in names for t in node.targets):
            constants |= {
                str(n.value) for n in ast.walk(node.value) if isinstance(n, ast.Constant) and n.value is not None
            }
    return constants


def _constant(node: ast.expr | None) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def _comments(exchange_id: str, of: str = "") -> str:
    """The messages shown in the code for streams: of the handlers with this in their name."""
    lines: list[str] = []
    for cls in _pro_classes(exchange_id):
        for name, function in vars(cls).items():
            if re.match(r"(handle|parse)_", name) and of in name and inspect.isfunction(function):
                source = inspect.getsource(function).splitlines()
                lines += [line.partition("#")[2] for line in source if line.strip().startswith("#")]
    return "\n".join(lines)


def _assignments(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if "] = " in line)


def _table() -> str:
    through_ccxt = [channel for channel in CHANNELS if channels.is_offered_by_any(channel)]
    lines = [f"| exchange | {' | '.join(through_ccxt)} |", "|---" * (len(through_ccxt) + 1) + "|"]
    for exchange_id in exchange_ids():
        cells = [_cell(exchange_id, channel) for channel in through_ccxt]
        lines.append(f"| {exchange_id} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(exchange_id: str, channel: Channel) -> str:
    method = channels.method_for(channel, exchange_id, features(exchange_id))
    if method is None:
        return "–"
    quirks = facts_of(exchange_id).ccxt
    lacking = [name for name in MARKET_TYPES if channel in quirks.unserved.get(name, ())]
    notes = f", not of {' and '.join(lacking)} markets" if lacking else ""
    notes += ", with a key" if channel in quirks.with_key_only else ""
    if method.polled:
        return "polled" + notes
    if method.returned or (exchange_id, channel) in RETURNED_ONLY:
        return "call" + notes
    source = ""
    if channel == "ticks" and method.of_books:
        source = " (book)"
    elif channel == "ticks":
        source = " (ticker)" if channels.ticks_from_tickers(exchange_id, method) else ""
        others = [channels.method_for(channel, exchange_id, features(exchange_id), name) for name in MARKET_TYPES]
        by_book = [name for name, m in zip(MARKET_TYPES, others, strict=True) if m is not None and m.of_books]
        source += "".join(f" ({name}: book)" for name in by_book)
    return ("tap, many" if method.many else "tap") + source + notes
