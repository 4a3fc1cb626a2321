"""Which endpoint of a venue serves past trades under the ids its stream speaks. Pure, and short on purpose.

A venue that is not here is asked through ccxt's plain `fetch_trades`, and what comes is believed only as far as it
shares trades with what the stream delivered (`trade_search`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ingestd.errors import Unfillable
from ingestd.feeds.past.trade_search import Ids, Paging


@dataclass(frozen=True, slots=True)
class Series:
    """How to ask for the trades of one stream. `params` go to ccxt's `fetch_trades` as they are.

    `id_param` names the venue's parameter for the id the page goes by. `is_known`: the venue is in this table, so that
    its ids are the stream's even where no stored trade can show it. `source` says where that is written.
    """

    paging: Paging
    ids: Ids
    page_limit: int
    params: Mapping[str, str] = field(default_factory=dict)
    id_param: str | None = None
    is_known: bool = True
    source: str = ""


_BINANCE_PREFIX = {"spot": "public", "linear": "fapiPublic", "inverse": "dapiPublic"}
_BINANCE_DOCS = "https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints"
BINANCE = frozenset({"binance", "binanceus", "binanceusdm", "binancecoinm"})


def series_for(exchange: str, kind: str, stream: str | None, *, has_key: bool) -> Series:
    """The series of one stream. Raises Unfillable where none serves it.

    `kind` is `spot`, `linear` or `inverse`; `stream` what ccxt subscribes to on this venue, where it has a choice;
    `has_key`: an API key is configured.
    """
    if exchange in BINANCE:
        needs_key = kind != "spot" or exchange != "binance"
        return _binance(kind, stream, may_ask=has_key or not needs_key)
    if exchange == "okx":
        return _okx(stream)
    return _TABLE.get(exchange, _ANY_VENUE)


def _binance(kind: str, stream: str | None, *, may_ask: bool) -> Series:
    """`@trade` and `@aggTrade` count their trades apart, and so do `trades`, `historicalTrades` and `aggTrades`.

    `may_ask`: there is a key for `historicalTrades`, or none is needed, as on Binance's own spot market.
    """
    prefix = _BINANCE_PREFIX.get(kind)
    if prefix is None:
        raise Unfillable(f"Binance serves no past trades with the stream's ids for {kind} markets")
    if stream == "aggTrade":
        method, limit = f"{prefix}GetAggTrades", 1000
    elif stream != "trade":
        raise Unfillable(f"it is not known which past trades have the ids of Binance's stream {stream!r}")
    elif may_ask:
        method, limit = f"{prefix}GetHistoricalTrades", 1000 if kind == "spot" else 500
    else:
        # historicalTrades wants a key. An aggregate cannot be taken apart into its trades.
        params = {"fetchTradesMethod": f"{prefix}GetTrades"}
        return Series(Paging.RECENT, Ids.CONSECUTIVE, 1000, params, source=_BINANCE_DOCS)
    return Series(Paging.FROM_ID, Ids.CONSECUTIVE, limit, {"fetchTradesMethod": method}, "fromId", source=_BINANCE_DOCS)


def _okx(stream: str | None) -> Series:
    """`trades` may sum several trades under the id of the last one; only `trades-all` has them one by one, as REST."""
    if stream != "trades-all":
        raise Unfillable(
            "OKX's stream 'trades' may sum several trades under one id, its past trades come one by one: only with "
            'options = { watchTrades = { channel = "trades-all" } } are they the same series'
        )
    return Series(
        Paging.BEFORE_ID,
        Ids.INCREASING,
        100,
        {"method": "publicGetMarketHistoryTrades"},
        "after",
        source="https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-trades-history",
    )


_TABLE: Mapping[str, Series] = {
    "coinbaseexchange": Series(
        Paging.BEFORE_ID,
        Ids.CONSECUTIVE,
        1000,
        id_param="after",
        source="https://docs.cdp.coinbase.com/exchange/reference/exchangerestapi_getproducttrades",
    ),
    # Its ids are a sequence per book: https://docs.kraken.com/api/docs/websocket-v2/trade
    "kraken": Series(
        Paging.FROM_TIME,
        Ids.CONSECUTIVE,
        1000,
        source="https://docs.kraken.com/api/docs/rest-api/get-recent-trades",
    ),
    # Only the newest: 60 on spot, 1000 on the others.
    "bybit": Series(
        Paging.RECENT, Ids.OPAQUE, 1000, source="https://bybit-exchange.github.io/docs/v5/market/recent-trade"
    ),
}
_ANY_VENUE = Series(Paging.FROM_TIME, Ids.OPAQUE, 1000, is_known=False)
