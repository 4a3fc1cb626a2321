"""Translates the names of markets in socket messages, where the exchange library uses others than the venue.

| venue | the library asks for | the venue's name |
|---|---|---|
| Kraken | its unified symbol, of which `LUNA/USD` is Terra 2 | `LUNA/USD` is Terra Classic, `LUNA2/USD` Terra 2 |
| Bybit, trades of options | `publicTrade.{symbol}` | `publicTrade.{baseCoin}`, for all options of the coin |
| Bithumb, CEX.IO, Coinone, Deepcoin's spot | the codes that the library has for the coins | the venue's ids of them |
| Independent Reserve, in the URL | the same | the same |

Pure: messages as decoded JSON in and out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Markets = Mapping[str, Mapping[str, Any]]  # the exchange library's dicts, by unified symbol

_OPTION_DASHES = 3  # of a Bybit option's id, such as BTC-26DEC25-100000-C
_TRADES = "publicTrade."
_TICKER = "ticker-"  # Independent Reserve's trades
_NEWER = {"XBT": "BTC", "XDG": "DOGE"}

# How messages write the codes of base and quote, where they are the library's codes and not the venue's ids.
_BY_CODES: Mapping[str, Sequence[str]] = {
    "bithumb": ("{0}_{1}",),
    "cex": ("pair-{0}-{1}", "{0}", "{1}"),
    "coinone": ("{0}", "{1}"),
    "deepcoin": ("{0}/{1}",),
    # "a primary currency code": https://github.com/independentreserve/websockets/blob/master/orderbook-ticker.md
    "independentreserve": ("{0}-{1}",),
}
_BETWEEN_PARTS = {"deepcoin": "_"}  # DeepCoin_BTC/USDT_0.01


class VenueNames(Protocol):
    """One socket's."""

    def dialled(self, url: str) -> str:
        """The library's URL as it is to be dialled."""

    def sent(self, message: Any) -> Any:
        """The library's message as the venue is to get it; None: there is nothing to ask for that was not asked."""

    def received(self, frame: Any) -> Sequence[Any]:
        """The venue's frame as the library is to read it: one, several or none."""


def venue_names(exchange: str, markets: Callable[[], Markets]) -> VenueNames | None:
    """What puts one new socket's names right; None where the library says the venue's own."""
    if exchange == "kraken":
        return _Kraken(markets)
    if exchange in _BY_CODES:
        return _Codes(_BY_CODES[exchange], markets, _BETWEEN_PARTS.get(exchange))
    return _Bybit() if exchange in ("bybit", "bybiteu", "bybitid") else None


def kraken_name(market: Mapping[str, Any]) -> str:
    """What Kraken's WebSocket v2 calls this market (the library's dict of it).

    REST's `wsname` is v1's naming; v2 says BTC and DOGE where that says XBT and XDG, and else the same:
    https://docs.kraken.com/exchange/guides/websockets/introduction. A market without one is called by the venue's ids
    of its assets: a name that v2 does not know is refused there.
    """
    info = market.get("info") or {}
    name = info.get("wsname")
    if not name and info.get("base"):
        name = f"{info['base']}/{info['quote']}"
    return "/".join(_NEWER.get(asset, asset) for asset in str(name or market["symbol"]).split("/"))


def by_its_own_assets(market: Mapping[str, Any], code_of: Callable[[str], str]) -> Mapping[str, Any]:
    """Kraken's market under the name that follows from the market itself; `code_of` is the library's code of an asset.

    The library reads the assets by what REST's list of assets says; while that cannot be had, `XREP` is called REP,
    which is the name of another market.
    """
    base, _, quote = str((market.get("info") or {}).get("wsname") or "").partition("/")
    if not quote or market["symbol"] == market["id"]:
        return market
    base, quote = code_of(base), code_of(quote)
    return {**market, "symbol": f"{base}/{quote}", "base": base, "quote": quote}


class _AsDialled:
    def dialled(self, url: str) -> str:
        return url


class _Kraken(_AsDialled):
    """Its messages name a market in `symbol`: of `params`, `result` and the rows of `data`, and of an error."""

    def __init__(self, markets: Callable[[], Markets]) -> None:
        self._markets = markets
        self._known: Markets = {}
        self._theirs: dict[str, str] = {}  # by unified symbol
        self._unified: dict[str, str] = {}

    def sent(self, message: Any) -> Any:
        params = message.get("params") if isinstance(message, dict) else None
        if not isinstance(params, dict) or not isinstance(params.get("symbol"), list):
            return message
        self._look()
        names = [self._theirs.get(symbol, symbol) for symbol in params["symbol"]]
        return {**message, "params": {**params, "symbol": names}}

    def received(self, frame: Any) -> Sequence[Any]:
        if not isinstance(frame, dict):
            return (frame,)
        self._look()
        rows = [frame, frame.get("result"), *(frame["data"] if isinstance(frame.get("data"), list) else ())]
        for row in rows:
            if isinstance(row, dict) and isinstance(row.get("symbol"), str):
                name = row["symbol"]
                if name not in self._unified and name in self._theirs:
                    return ()  # a market that REST does not list, under what the library calls another one
                row["symbol"] = self._unified.get(name, name)
        return (frame,)

    def _look(self) -> None:
        markets = self._markets()
        if markets is not self._known:
            self._known = markets
            self._theirs = {symbol: kraken_name(market) for symbol, market in markets.items()}
            self._unified = {name: symbol for symbol, name in self._theirs.items()}


class _Codes(_AsDialled):
    """The library asks for a market by its own codes of the coins, and reads the answer by the venue's ids of them.

    `between`: what parts the name from the rest of a text; None: the name is the whole text.
    """

    def __init__(self, forms: Sequence[str], markets: Callable[[], Markets], between: str | None = None) -> None:
        self._forms = forms
        self._markets = markets
        self._between = between

    def dialled(self, url: str) -> str:
        """What is asked for may stand in the URL, as in `?subscribe=ticker-BTC-AUD`, and nowhere else."""
        head, subscribe, asked = url.partition("?subscribe=")
        kind = _TICKER if asked.startswith(_TICKER) else ""
        name = asked.removeprefix(_TICKER)
        return f"{head}{subscribe}{kind}{self._theirs().get(name, name)}"

    def sent(self, message: Any) -> Any:
        theirs = self._theirs()
        return self._renamed(message, theirs) if theirs else message

    def received(self, frame: Any) -> Sequence[Any]:
        return (frame,)

    def _theirs(self) -> dict[str, str]:
        theirs: dict[str, str] = {}
        for market in self._markets().values():
            ours, ids = (market["base"], market["quote"]), (market["baseId"], market["quoteId"])
            if [code.upper() for code in ours] != [str(code).upper() for code in ids]:
                theirs |= {form.format(*ours): form.format(*ids) for form in self._forms}
        return theirs

    def _renamed(self, value: Any, theirs: Mapping[str, str]) -> Any:
        if isinstance(value, str):
            parts = [value] if self._between is None else value.split(self._between)
            return (self._between or "").join(theirs.get(part, part) for part in parts)
        if isinstance(value, list):
            return [self._renamed(item, theirs) for item in value]
        if isinstance(value, dict):
            return {key: self._renamed(item, theirs) for key, item in value.items()}
        return value


class _Bybit(_AsDialled):
    """https://bybit-exchange.github.io/docs/v5/websocket/public/trade"""

    def __init__(self) -> None:
        self._asked: set[str] = set()  # of the topics that stand for several markets

    def sent(self, message: Any) -> Any:
        topics = message.get("args") if isinstance(message, dict) and message.get("op") == "subscribe" else None
        if not isinstance(topics, list) or not any(_option_of(topic) for topic in topics):
            return message
        coins = [f"{_TRADES}{option.split('-')[0]}" for topic in topics if (option := _option_of(topic))]
        new = [topic for topic in dict.fromkeys(coins) if topic not in self._asked]
        self._asked.update(new)
        args = [topic for topic in topics if not _option_of(topic)] + new
        return {**message, "args": args} if args else None

    def received(self, frame: Any) -> Sequence[Any]:
        if not isinstance(frame, dict) or frame.get("topic") not in self._asked or not isinstance(frame["data"], list):
            return (frame,)
        by_market: dict[str, list[Any]] = {}
        for row in frame["data"]:
            by_market.setdefault(row["s"], []).append(row)
        return [{**frame, "topic": _TRADES + name, "data": rows} for name, rows in by_market.items()]


def _option_of(topic: Any) -> str | None:
    """The option whose trades this topic asks for."""
    name = topic.removeprefix(_TRADES) if isinstance(topic, str) and topic.startswith(_TRADES) else ""
    return name if name.count("-") >= _OPTION_DASHES else None
