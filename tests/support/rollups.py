"""Generated trades of many markets, and their candles by polars: each timeframe made of the trades themselves, in
integers of 128 bits, where the database makes it of the timeframe below."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

from ingestd.config.values import SymbolStyle
from ingestd.records import Side, Trade
from ingestd.status import MarketInfo

TIMEFRAMES = {
    **{"candles_1m": "1m", "candles_5m": "5m", "candles_15m": "15m", "candles_30m": "30m", "candles_1h": "1h"},
    **{"candles_4h": "4h", "candles_1d": "1d", "candles_1w": "1w", '"candles_1M"': "1mo"},
}
_PRICE, _QUANTITY, _SIZE = 6, 8, 3  # digits behind the point, at most
_KEY = ["bucket", "exchange", "symbol"]
_HOUR_US = 3_600_000_000

Names: TypeAlias = dict[SymbolStyle, str]


@dataclass(frozen=True)
class Market:
    """A market, its four names as docs/schema.md has them, and what its trades say of their unit.

    `is_base`: whether a trade that says nothing counts the base currency, so that its amount is known.
    """

    info: MarketInfo
    names: Names
    units: tuple[str | None, ...] = (None,)
    is_base: bool = True
    sides: tuple[Side | None, ...] = ("buy", "sell")


def markets(count: int) -> list[Market]:
    """Markets of nine kinds in turn."""
    return [_KINDS[number % len(_KINDS)](f"C{number}X") for number in range(count)]


def _spot(base: str) -> Market:
    names: Names = {"unified": f"{base}/USDT", "compact": f"{base}USDT", "dash": f"{base}-USDT", "venue": f"{base}USDT"}
    return Market(MarketInfo("binance", f"{base}/USDT", f"{base}USDT", base, "USDT", "spot", True), names)


def _spot_without_sides(base: str) -> Market:
    names: Names = {"unified": f"{base}/USD", "compact": f"{base}USD", "dash": f"{base}-USD", "venue": f"X{base}ZUSD"}
    info = MarketInfo("kraken", f"{base}/USD", f"X{base}ZUSD", base, "USD", "spot", True)
    return Market(info, names, sides=(None, None, "buy", "sell"))


def _contract(
    exchange: str, base: str, market_id: str, units: tuple[str | None, ...], *, is_base: bool = False, venue: str = ""
) -> Market:
    """One settled in what it is quoted in."""
    symbol = f"{base}/USDT:USDT"
    info = MarketInfo(exchange, symbol, market_id, base, "USDT", "swap", True, linear=True)
    names: Names = {
        "unified": symbol,
        "compact": f"{base}USDT.P",
        "dash": f"{base}-USDT.P",
        "venue": venue or market_id,
    }
    return Market(info, names, units, is_base)


def _inverse(exchange: str, base: str, market_id: str, units: tuple[str | None, ...]) -> Market:
    info = MarketInfo(exchange, f"{base}/USD:{base}", market_id, base, "USD", "swap", True, linear=False)
    names: Names = {
        "unified": f"{base}/USD:{base}",
        "compact": f"{base}USD.{base}.P",
        "dash": f"{base}-USD.{base}.P",
        "venue": market_id,
    }
    return Market(info, names, units, is_base=False)


def _dated(base: str) -> Market:
    symbol = f"{base}/USDT:USDT-301227"
    info = MarketInfo("bybit", symbol, f"{base}-27DEC30", base, "USDT", "future", True, linear=True)
    names: Names = {
        "unified": symbol,
        "compact": f"{base}USDT-301227",
        "dash": f"{base}-USDT-301227",
        "venue": f"{base}-27DEC30",
    }
    return Market(info, names, (None, "base"))


_KINDS = (
    _spot,
    lambda base: _contract("binance", base, f"{base}USDT", (None,), is_base=True, venue=f"{base}USDT.P"),
    lambda base: _contract("okx", base, f"{base}-USDT-SWAP", ("0.01 base",)),
    lambda base: _inverse("okx", base, f"{base}-USD-SWAP", ("100 quote",)),
    lambda base: _inverse("bybit", base, f"{base}USD-I", ("quote", "quote", "quote", None)),
    lambda base: _contract("htx", base, f"{base}-USDT-S", ("0.1 base", "0.1 base", "0.1 base", "unknown")),
    lambda base: _contract("gate", base, f"{base}_USDT_P", ("10 base", "0.125 base", None)),
    _spot_without_sides,
    _dated,
)


def generated(market: Market, chance: random.Random, start_us: int, end_us: int, trades_a_day: int) -> Iterator[Trade]:
    """A market's trades in order: bursts, of which many are in one instant, and days or hours without any."""
    at, price, number = start_us, 10 ** chance.uniform(0, 4), chance.randrange(9) + 1
    pause_us = 86_400_000_000 * 2.5 / trades_a_day  # a burst has 2.5 trades
    while True:
        at += int(chance.expovariate(1 / pause_us)) + (chance.randrange(20) * _HOUR_US if chance.random() < 0.01 else 0)
        at -= at % 1000 if chance.random() < 0.8 else 0
        moment, seq = at, number
        for _ in range(chance.randint(1, 4)):
            moment += chance.choice((0, 0, 1000, 250_000, 40_000_000))
            number += 1
            seq = number if chance.random() < 0.8 else seq  # where it is not, the id decides
            price *= 1 + chance.gauss(0, 0.001)
            if moment >= end_us:
                return
            yield _trade(market, chance, moment, seq, number, price)


def _trade(market: Market, chance: random.Random, at_us: int, seq: int, number: int, price: float) -> Trade:
    is_left_out = chance.random() < 0.03
    return Trade(
        market.info.exchange,
        market.info.symbol,
        at_us,
        at_us + 1000,
        str(number),
        seq,
        chance.choice(market.sides),
        f"{price:.{chance.choice((1, 2, 2, 2, _PRICE))}f}",
        f"{chance.randint(7, 5000) / 7:.{chance.choice((0, 1, 3, _QUANTITY))}f}",
        "insurance_fund" if is_left_out else chance.choice((None, None, None, "rpi")),
        not is_left_out,
        chance.choice(market.units),
    )


def frame(trades: Sequence[Trade], of: Sequence[Market]) -> pl.DataFrame:
    """The trades that belong in candles, in the order in which candles take them, with integers for their decimals."""
    base = pl.DataFrame(
        [(one.info.exchange, one.info.symbol, one.is_base) for one in of],
        schema=["exchange", "symbol", "is_base"],
        orient="row",
    )
    rows = [
        (t.exchange, t.symbol, t.time, t.seq, t.trade_id, t.side, t.price, t.quantity, t.unit)
        for t in trades
        if t.in_candles
    ]
    names = ["exchange", "symbol", "time", "seq", "trade_id", "side", "price", "quantity", "unit"]
    found = pl.DataFrame(rows, schema={n: pl.Int64 if n in ("time", "seq") else pl.String for n in names}, orient="row")
    counted = pl.col("unit").str.split(" ").list.last()
    return (
        found.join(base, on=["exchange", "symbol"])
        .sort("time", "seq", "trade_id")
        .with_columns(
            pl.from_epoch("time", time_unit="us").alias("at"),
            pl.when(pl.col("unit").is_null()).then(pl.when("is_base").then(pl.lit("base"))).otherwise(counted).alias("of"),
            pl.when(pl.col("unit").str.contains(" ")).then(pl.col("unit").str.split(" ").list.first())
            .otherwise(pl.lit("1")).alias("size"),
        )
        .with_columns(
            *_read("price", _PRICE), *_read("quantity", _QUANTITY), *_read("size", _SIZE)
        )
        .with_columns(*_amount())
    )  # fmt: skip


def _read(column: str, digits: int) -> list[pl.Expr]:
    """A decimal text as an integer, and how many digits the text has behind the point."""
    behind = pl.col(column).str.split(".").list.get(1, null_on_oob=True).fill_null("")
    whole = pl.col(column).str.split(".").list.first() + behind.str.pad_end(digits, "0")
    return [whole.cast(pl.Int128).alias(f"{column}_n"), behind.str.len_chars().cast(pl.Int64).alias(f"{column}_s")]


def _amount() -> list[pl.Expr]:
    """What was paid in the quote currency, with all digits; NULL where nobody can know."""
    price, quantity, size = (pl.col(f"{name}_n") for name in ("price", "quantity", "size"))
    scales = [pl.col(f"{name}_s") for name in ("price", "quantity", "size")]
    of_base = pl.when(pl.col("of") == "base")
    return [
        of_base.then(price * quantity * size)
        .when(pl.col("of") == "quote")
        .then(quantity * size * 10**_PRICE)
        .alias("amount_n"),
        of_base.then(scales[0] + scales[1] + scales[2]).otherwise(scales[1] + scales[2]).alias("amount_s"),
    ]


def expected(trades: pl.DataFrame, timeframe: str) -> pl.DataFrame:
    """Every candle of a timeframe, as text to the digit, in the order of time and market."""
    all_known = pl.col("amount_n").null_count() == 0
    is_buy, has_side = pl.col("side") == "buy", pl.col("side").is_not_null().any()

    def summed(name: str, rows: pl.Expr | None = None) -> list[pl.Expr]:
        number, scale = pl.col(f"{name}_n"), pl.col(f"{name}_s")
        if rows is None:
            return [number.sum().alias(f"all_{name}_n"), scale.max().alias(f"all_{name}_s")]
        return [
            number.filter(rows).sum().alias(f"bought_{name}_n"),
            scale.filter(rows).max().fill_null(0).alias(f"bought_{name}_s"),
        ]

    made = trades.group_by(pl.col("at").dt.truncate(timeframe).alias("bucket"), "exchange", "symbol").agg(
        pl.col("price").first().alias("open"),
        pl.col("price_n").max().alias("high_n"),
        pl.col("price_n").min().alias("low_n"),
        pl.col("price_s").max().alias("price_s"),
        pl.col("price").last().alias("close"),
        *summed("quantity"),
        *summed("amount"),
        pl.len().cast(pl.String).alias("trades_count"),
        *summed("quantity", is_buy),
        *summed("amount", is_buy),
        all_known.alias("all_known"),
        has_side.alias("has_side"),
    )
    digits = _PRICE + _QUANTITY + _SIZE
    return made.select(
        pl.col("bucket").dt.epoch("s"),
        "exchange",
        "symbol",
        "open",
        _written("high_n", "price_s", _PRICE).alias("high"),
        _written("low_n", "price_s", _PRICE).alias("low"),
        "close",
        _written("all_quantity_n", "all_quantity_s", _QUANTITY).alias("volume"),
        pl.when("all_known").then(_written("all_amount_n", "all_amount_s", digits)).alias("quote_volume"),
        "trades_count",
        pl.when("has_side")
        .then(_written("bought_quantity_n", "bought_quantity_s", _QUANTITY))
        .alias("taker_buy_base_volume"),
        pl.when(pl.col("has_side") & pl.col("all_known"))
        .then(_written("bought_amount_n", "bought_amount_s", digits))
        .alias("taker_buy_quote_volume"),
    ).sort(_KEY)


def _written(number: str, scale: str, digits: int) -> pl.Expr:
    """An integer of so many digits behind the point, as text with as many of them as `scale` says."""
    whole = (pl.col(number) // 10**digits).cast(pl.String)
    behind = (pl.col(number) % 10**digits).cast(pl.String).str.zfill(digits).str.head(pl.col(scale))
    return pl.when(pl.col(scale) > 0).then(whole + "." + behind).otherwise(whole)


COLUMNS = (
    *("open", "high", "low", "close", "volume", "quote_volume", "trades_count"),
    *("taker_buy_base_volume", "taker_buy_quote_volume"),
)


def query(relation: str) -> str:
    """The candles as the database has them, as text."""
    return (
        f"SELECT extract(epoch FROM bucket_start)::bigint AS bucket, exchange, symbol, {', '.join(COLUMNS)}"
        f" FROM {relation}"
    )


def read(text: bytes) -> pl.DataFrame:
    """The result of `query` as CSV."""
    schema = {"bucket": pl.Int64, "exchange": pl.String, "symbol": pl.String, **dict.fromkeys(COLUMNS, pl.String)}
    return pl.read_csv(io.BytesIO(text), schema=schema).sort(_KEY)


def renamed(candles: pl.DataFrame, of: Sequence[Market], style: SymbolStyle) -> pl.DataFrame:
    """The same candles with the names of a style."""
    names = pl.DataFrame(
        [(one.info.exchange, one.info.symbol, one.names[style]) for one in of],
        schema=["exchange", "symbol", "name"],
        orient="row",
    )
    found = candles.join(names, on=["exchange", "symbol"]).with_columns(pl.col("name").alias("symbol"))
    return found.drop("name").sort(_KEY)


def difference(found: pl.DataFrame, right: pl.DataFrame) -> str:
    """What is the matter, in a few rows; empty: they are equal."""
    if found.equals(right):
        return ""
    columns = [*_KEY, *COLUMNS]
    with pl.Config(tbl_cols=-1, fmt_str_lengths=60, tbl_width_chars=250):
        missing = right.join(found, on=columns, how="anti", nulls_equal=True).head(3)
        wrong = found.join(right, on=columns, how="anti", nulls_equal=True).head(3)
        return f"{found.height} candles instead of {right.height}; expected\n{missing}\nfound\n{wrong}"
