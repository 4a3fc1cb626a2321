"""How venues mark trades that are not ordinary ones, and which of these their own candles leave out.

One table for both kinds of feed: our decoders take the labels from here, ccxt's trades are looked up by their raw
message.
A venue's label that the table does not know is `other`: counted, and left in the candles. Where no sentence of the
venue's documents, and no recording, says that its candles leave a kind out, they are taken to have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingestd.records import TradeKind

Labels = Mapping[str, TradeKind | None]


@dataclass(frozen=True, slots=True)
class Marks:
    """One venue's. `labels`: a field of the message and its values (None: an ordinary trade). `flags`: fields that are
    there, and true, for trades of that kind only. `left_out`: what the venue's own candles do not count."""

    labels: Mapping[str | int, Labels] = field(default_factory=dict)
    flags: Mapping[str | int, TradeKind] = field(default_factory=dict)
    left_out: frozenset[TradeKind] = frozenset()

    def kinds_of(self, name: str) -> dict[str | None, TradeKind | None]:
        """What each label of this field means, also where it is missing or empty: an ordinary trade."""
        unmarked: dict[str | None, TradeKind | None] = {None: None, "": None}
        return unmarked | dict(self.labels[name].items())

    def kind(self, raw: Any) -> TradeKind | None:
        """The kind of the trade of this raw message."""
        for name, kinds in self.labels.items():
            label = _value(raw, name)
            if label is not None and label != "":
                kind = kinds.get(str(label), "other")
                if kind is not None:
                    return kind
        for name, kind in self.flags.items():
            if str(_value(raw, name)).lower() not in _NOT_SET:
                return kind
        return None


_NOT_SET = frozenset({"none", "", "false", "0", "no"})


def _value(raw: Any, name: str | int) -> Any:
    if isinstance(raw, Mapping):
        return raw.get(name)
    has_place = isinstance(name, int) and isinstance(raw, Sequence) and not isinstance(raw, str) and name < len(raw)
    return raw[name] if has_place else None


# X of the trade stream; REST says isRPITrade. Options: MARKET, and BLOCK. `NA` comes with zeros, which are rejected.
# "Only market trades will be aggregated, which means the insurance fund trades and ADL trades won't be"; RPI are.
# Recorded candles are the sum of the aggregates (`test_recorded_candles_of_binance_agree`): so they have neither.
# https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Aggregate-Trade-Streams
# https://developers.binance.com/docs/derivatives/options-trading/websocket-market-streams/Trade-Streams
# https://developers.binance.com/docs/derivatives/change-log (2025-11: isRPITrade)
_BINANCE_LABELS: Mapping[str | int, Labels] = {
    "X": {"MARKET": None, "INSURANCE_FUND": "insurance_fund", "ADL": "adl", "RPI": "rpi", "BLOCK": "block"}
}
_BINANCE = Marks(_BINANCE_LABELS, {"isRPITrade": "rpi"}, frozenset({"insurance_fund", "adl"}))

# https://bybit-exchange.github.io/docs/v5/websocket/public/trade (BT, RPI)
# https://bybit-exchange.github.io/docs/v5/market/recent-trade (isBlockTrade, isRPITrade)
_BYBIT = Marks(flags={"BT": "block", "isBlockTrade": "block", "RPI": "rpi", "isRPITrade": "rpi"})

# 1 is an order of the Enhanced Liquidity Program, which orders of the venue's own screens meet first.
# https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-trades-channel
_OKX = Marks({"source": {"0": None, "1": "rpi"}})

# "the takeover of liquidation orders by the insurance fund and ADL users …, it will not be recorded in the K-line"
# https://www.gate.com/docs/developers/apiv4/en/#futures-market-transaction-records
_GATE = Marks(flags={"is_internal": "liquidation"}, left_out=frozenset({"liquidation"}))

# "liquidation if it is a result of a user being liquidated …, termination if it is a result of a user being terminated,
# or block"; `assignment` is in the trades over REST alone. That a termination closes other traders' positions is said
# of the venue's last step elsewhere, not in the documents of the feed.
# https://docs.kraken.com/exchange/api-reference/futures-websocket/trade
_KRAKEN_FUTURES = Marks(
    {
        "type": {
            "fill": None,
            "liquidation": "liquidation",
            "assignment": "liquidation",
            "termination": "adl",
            "block": "block",
        }
    }
)

# https://docs.deribit.com/subscriptions/trades/tradesinstrument_nameinterval (each only for such trades)
_DERIBIT = Marks(flags={"liquidation": "liquidation", "block_trade_id": "block", "block_rfq_id": "block"})

_EXTENDED: Labels = {"TRADE": None, "LIQUIDATION": "liquidation", "DELEVERAGE": "adl"}
_PACIFICA: Labels = {
    "normal": None,
    "market_liquidation": "liquidation",
    "backstop_liquidation": "liquidation",
    "settlement": "settlement",
}

_VENUES: Mapping[str, Marks] = {
    **dict.fromkeys(("binance", "binancecoinm", "binanceusdm"), _BINANCE),
    "aster": Marks(_BINANCE_LABELS, {"isRPITrade": "rpi"}),  # a fork of it, of whose candles nothing is known
    **dict.fromkeys(("bybit", "bybiteu", "bybitid"), _BYBIT),
    "apex": Marks(flags={"BT": "block"}),  # messages of Bybit's form
    **dict.fromkeys(("okx", "okxus", "myokx"), _OKX),
    **dict.fromkeys(("gate", "gateeu", "gateio"), _GATE),
    "krakenfutures": _KRAKEN_FUTURES,
    **dict.fromkeys(("deribit", "coinbaseinternational"), _DERIBIT),
    # https://www.bitget.com/api-doc/uta/websocket/public/New-Trades-Channel (yes or no)
    "bitget": Marks(flags={"isRPI": "rpi"}),
    "derive": Marks(flags={"rfq_id": "block"}),  # https://docs.derive.xyz/reference/trades-instrument_name
    # https://docs.dydx.xyz/types/trade_type
    "dydx": Marks(
        {"type": {"LIMIT": None, "MARKET": None, "LIQUIDATED": "liquidation", "DELEVERAGED": "adl"}},
    ),
    # https://api.docs.extended.exchange/#trades-stream (tradeType over REST, tT on the socket)
    "extended": Marks(
        {"tradeType": _EXTENDED, "tT": _EXTENDED},
    ),
    # https://docs.gemini.com/rest/market-data#list-trades (there `buy` and `sell` are ordinary); the flag is our
    # own word for the socket's type `block_trade`: see `corrections`
    "gemini": Marks(
        {"type": {"trade": None, "buy": None, "sell": None, "block": "block"}},
        {"block_trade": "block"},
    ),
    # https://api-docs.grvt.io/market_data_streams/#trade
    "grvt": Marks(flags={"is_rpi": "rpi"}),
    # https://apidocs.lighter.xyz/docs/websocket-reference#trade
    "lighter": Marks(
        {
            "type": {
                "trade": None,
                "liquidation": "liquidation",
                "deleverage": "adl",
                "market-settlement": "settlement",
            }
        }
    ),
    "ndax": Marks(flags={"IsBlockTrade": "block", 9: "block"}),  # https://apidoc.ndax.io/#subscribetrades
    # https://docs.pacifica.fi/api-documentation/api/websocket/subscriptions/trades (cause over REST, tc on the socket)
    "pacifica": Marks(
        {"cause": _PACIFICA, "tc": _PACIFICA},
    ),
    "whitebit": Marks(flags={"rpi": "rpi"}),  # https://docs.whitebit.com/websocket/market-streams/trades
    "woo": Marks(flags={"rpi": "rpi"}),  # https://docs.woox.io/#trade
    # https://docs.paradex.trade/ws/web-socket-channels/trades/trades
    "paradex": Marks(
        {
            "trade_type": {
                "FILL": None,
                "LIQUIDATION": "liquidation",
                "RPI": "rpi",
                "BLOCK_TRADE": "block",
                "SETTLE_MARKET": "settlement",
            }
        }
    ),
}

_NONE = Marks()


def marks_of(exchange: str) -> Marks:
    """How this venue marks its trades; one that is not in the table marks none."""
    return _VENUES.get(exchange, _NONE)
