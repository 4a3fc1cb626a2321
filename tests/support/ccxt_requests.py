"""What a venue's code in the exchange library asks for a made-up market, or why it refuses: nothing is dialled."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from ingestd.feeds.ccxt.tap import make_exchange
from ingestd.feeds.ccxt.tap_state import Tap

MARKET_TYPES = ("spot", "swap", "future", "option")
_SETTLED = {"spot": "", "swap": ":UNIQ", "future": ":UNIQ-301231", "option": ":UNIQ-301231-100-C"}
_REFUSED_WITHIN_S = 0.2  # a venue that waits for its login is asked no more
KEY = {"apiKey": "a" * 32, "secret": "YWFhYWFhYWFhYWFhYWFhYQ==", "password": "x"}


class Asked(Exception):  # no error: it ends the venue's code where it would go to the network
    """The venue's code has said what it asks."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`requests`: the URLs and messages of sockets; `error`: what the venue's code raised."""

    requests: tuple[tuple[str, Any], ...]
    error: Exception | None


def symbol_of(market_type: str) -> str:
    """The unified symbol: no venue calls a coin like this, so what holds it was made of unified codes."""
    return f"UNIB/UNIQ{_SETTLED[market_type]}"


def market_of(exchange: Any, market_type: str) -> dict[str, Any]:
    """The library's dict of a market that the venue calls otherwise than the library does."""
    is_contract = market_type != "spot"
    market_id = "77" if exchange.id == "nado" else "VBASE-VQUOTE"
    return {
        **exchange.safe_market_structure(),
        **{name: name == market_type for name in MARKET_TYPES},
        "type": market_type, "contract": is_contract, "symbol": symbol_of(market_type), "active": True,
        "linear": is_contract or None, "inverse": False if is_contract else None,
        "subType": "linear" if is_contract else None, "settle": "UNIQ" if is_contract else None,
        "settleId": "VQUOTE" if is_contract else None, "contractSize": 1.0 if is_contract else None,
        "id": market_id, "id2": market_id, "lowercaseId": market_id.lower(), "numericId": 77,
        "base": "UNIB", "quote": "UNIQ", "baseId": "VBASE", "quoteId": "VQUOTE", "baseName": "VBASE",
        "precision": {"amount": 0.001, "price": 0.01},
        "expiry": 1924905600000 if market_type in ("future", "option") else None,
        "strike": 100.0 if market_type == "option" else None,
        "info": {"wsname": "VBASE/VQUOTE", "base": "VBASE", "quote": "VQUOTE", "InstrumentId": "77"},
    }  # fmt: skip


class Asking:
    """One venue's code, of which a made-up market of each type is asked."""

    def __init__(self, exchange_id: str, *, with_key: bool = False) -> None:
        self._requests: list[tuple[str, Any]] = []
        self._exchange = exchange = make_exchange(exchange_id, Tap(), credentials=KEY if with_key else {})
        exchange.open = lambda: None
        exchange.common_currency_code = lambda code: {"VBASE": "UNIB", "VQUOTE": "UNIQ"}.get(code, code)
        exchange.set_markets([market_of(exchange, market_type) for market_type in _listed(exchange)])
        exchange.load_markets, exchange.fetch = self._load_markets, self._fetch
        exchange.watch = exchange.watch_multiple = self._watch

    @property
    def markets(self) -> Any:
        """The library's markets, by unified symbol."""
        return self._exchange.markets

    async def call(self, method: str, *arguments: Any) -> Outcome:
        """What the venue's code does when it is asked for this."""
        self._requests.clear()
        self._exchange.asyncio_loop = asyncio.get_running_loop()
        error: Exception | None = None
        try:
            async with asyncio.timeout(_REFUSED_WITHIN_S):
                await getattr(self._exchange, method)(*arguments)
        except (Asked, TimeoutError):
            pass
        except Exception as raised:  # the venue's code may raise anything: it is the outcome
            error = raised
        return Outcome(tuple(self._requests), error)

    async def _load_markets(self, *_: Any) -> Any:
        return self._exchange.markets

    async def _fetch(self, *_: Any, **__: Any) -> Any:
        raise Asked

    def _watch(self, url: str, _hash: Any, message: Any = None, *_: Any) -> Any:
        self._requests.append((url, message))
        raise Asked


def _listed(exchange: Any) -> list[str]:
    return [market_type for market_type in MARKET_TYPES if exchange.has.get(market_type) is not False]
