"""Converts ccxt's unified dicts to records. Pure. Returns None if a required value is missing.

Times are the exchange's, in microseconds if its message is that precise. Without a time, `time` = `received_at`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ingestd.feeds.ccxt.corrections import corrected, streamed_candle, ticker_time_us
from ingestd.feeds.ccxt.open_interest import counted, unit_of
from ingestd.feeds.markets.quantity_units import contract_of, positive_size
from ingestd.records import BookSnapshot, Candle, Funding, Level, OpenInterest, Side, Tick, Trade
from ingestd.status import MarketInfo
from ingestd.venues.all import facts_of
from ingestd.venues.exact import decimal_text, sent_text
from ingestd.venues.numbers import annualised_rate
from ingestd.venues.trade_identity import TradeIds
from ingestd.venues.venue_time import BOOK_TIME, epoch_us, time_us

_SEQ_LIMIT = 2**63


def trade_record(
    exchange: str, symbol: str, trade: Mapping[str, Any], received_at: int, ids: TradeIds, unit: str | None = None
) -> Trade | None:
    """A public trade. `side` is the taker side, None if not stated. `unit`: see `quantity_units.unit_of`."""
    trade = corrected(exchange, trade)
    price, quantity = decimal_text(trade.get("price")), decimal_text(trade.get("amount"))
    if price is None or quantity is None:
        return None
    info = trade.get("info")
    sent: Sequence[Any] = list(info.values()) if isinstance(info, Mapping) else info if isinstance(info, list) else ()
    price, quantity = sent_text(price, sent), sent_text(quantity, sent)
    side = _side(trade.get("side"))
    marks = facts_of(exchange).trades.marks
    kind = marks.kind(info)
    time = time_us(trade.get("timestamp"), info, received_at)
    trade_id = str(trade.get("id") or "") or ids.synthetic(symbol, time // 1000, price, quantity, side, received_at)
    return Trade(
        exchange=exchange,
        symbol=symbol,
        time=time,
        received_at=received_at,
        trade_id=trade_id,
        seq=ids.seq(trade_id),
        side=side,
        price=price,
        quantity=quantity,
        kind=kind,
        in_candles=kind not in marks.left_out,
        unit=unit,
    )


def tick_record(exchange: str, symbol: str, ticker: Mapping[str, Any], received_at: int) -> Tick | None:
    """The best bid and ask of a ticker; None if it has neither."""
    bid, ask = decimal_text(ticker.get("bid")), decimal_text(ticker.get("ask"))
    if bid is None and ask is None:
        return None
    info = ticker.get("info")
    return Tick(
        exchange=exchange,
        symbol=symbol,
        time=ticker_time_us(exchange, info)
        or time_us(ticker.get("timestamp"), info, received_at, ticker.get("datetime")),
        received_at=received_at,
        bid_price=bid,
        bid_volume=decimal_text(ticker.get("bidVolume")),
        ask_price=ask,
        ask_volume=decimal_text(ticker.get("askVolume")),
    )


def top_record(exchange: str, symbol: str, book: Mapping[str, Any], received_at: int) -> Tick | None:
    """The best bid and ask of a book; None if it is empty or crossed, since a crossed book is wrong."""
    bids, asks = list(_levels(book["bids"][:1])), list(_levels(book["asks"][:1]))
    if (not bids and not asks) or (bids and asks and book["bids"][0][0] >= book["asks"][0][0]):
        return None
    bid, ask = bids[0] if bids else (None, None), asks[0] if asks else (None, None)
    return Tick(
        exchange=exchange,
        symbol=symbol,
        time=book_time(book, received_at),
        received_at=received_at,
        bid_price=bid[0],
        bid_volume=bid[1],
        ask_price=ask[0],
        ask_volume=ask[1],
    )


def book_time(book: Mapping[str, Any], received_at: int) -> int:
    """When the exchange changed the book, in microseconds; if not stated, when it was received."""
    time: int = book.get(BOOK_TIME) or time_us(book.get("timestamp"), None, received_at, book.get("datetime"))
    return time


def book_record(
    exchange: str, symbol: str, book: Mapping[str, Any], received_at: int, levels: int
) -> BookSnapshot | None:
    """The top levels of a book; None if both sides are empty. `valid` is False if the sides cross."""
    bids, asks = book["bids"][:levels], book["asks"][:levels]
    if not bids and not asks:
        return None
    nonce = book.get("nonce")
    return BookSnapshot(
        exchange=exchange,
        symbol=symbol,
        time=book_time(book, received_at),
        received_at=received_at,
        bids=tuple(_levels(bids)),
        asks=tuple(_levels(asks)),
        sequence=nonce if isinstance(nonce, int) and nonce < _SEQ_LIMIT else None,
        valid=not (bids and asks and bids[0][0] >= asks[0][0]),
    )


def funding_record(exchange: str, symbol: str, rate: Mapping[str, Any], received_at: int) -> Funding | None:
    """A funding rate, annualised if ccxt states the interval."""
    funding_rate = decimal_text(rate.get("fundingRate"))
    if funding_rate is None:
        return None
    due = rate.get("fundingTimestamp") or rate.get("nextFundingTimestamp")
    return Funding(
        exchange=exchange,
        symbol=symbol,
        time=time_us(rate.get("timestamp"), rate.get("info"), received_at),
        received_at=received_at,
        funding_rate=funding_rate,
        next_funding_time=int(due) * 1000 if due else None,
        annualised_rate=_annualised(funding_rate, rate.get("interval")),
        mark_price=decimal_text(rate.get("markPrice")),
    )


def open_interest_record(
    exchange: str, symbol: str, interest: Mapping[str, Any], received_at: int
) -> OpenInterest | None:
    """Open interest in the exchange's unit, its value in the quote currency, or both; None if neither is stated."""
    amount, value, unit = counted(exchange, symbol, interest)
    if amount is None and value is None:
        return None
    return OpenInterest(
        exchange=exchange,
        symbol=symbol,
        time=time_us(interest.get("timestamp"), interest.get("info"), received_at),
        received_at=received_at,
        open_interest=amount,
        open_interest_usd=value,
        unit=unit,
    )


def candle_record(exchange: str, symbol: str, timeframe: str, row: Sequence[Any], received_at: int) -> Candle | None:
    """A candle from ccxt's `[opening time (ms), open, high, low, close, volume]`."""
    if len(row) < 6 or not row[0]:
        return None
    prices = [decimal_text(value) for value in row[1:6]]
    opened, high, low, closed, volume = prices
    if opened is None or high is None or low is None or closed is None:
        return None
    return Candle(
        exchange=exchange,
        symbol=symbol,
        time=epoch_us(int(row[0])),
        received_at=received_at,
        timeframe=timeframe,
        open=opened,
        high=high,
        low=low,
        close=closed,
        volume=volume or "0",
    )


def streamed_candle_record(
    exchange: str, symbol: str, timeframe: str, row: Sequence[Any], received_at: int
) -> Candle | None:
    """A candle from ccxt's row of a streamed candle."""
    return candle_record(exchange, symbol, timeframe, streamed_candle(exchange, row), received_at)


class CandleFinality:
    """Holds back each symbol's newest candle until the next one begins, because only then is it final."""

    def __init__(self) -> None:
        self._newest: dict[str, Candle] = {}

    def accept(self, candle: Candle) -> Candle | None:
        """Take an update; return the previous candle if this one makes it final. Ignores updates of older candles."""
        held = self._newest.get(candle.symbol)
        if held is not None and candle.time < held.time:
            return None
        self._newest[candle.symbol] = candle
        return held if held is not None and candle.time > held.time else None

    def forget(self, symbol: str) -> None:
        """Drop the held candle after an interruption: it may lack its last trades."""
        self._newest.pop(symbol, None)


def market_info(exchange: str, market: Mapping[str, Any]) -> MarketInfo:
    """The row of table `symbols` for a ccxt market."""
    amounts = (market.get("limits") or {}).get("amount") or {}
    precision = market.get("precision") or {}
    contract = contract_of(exchange, market)
    return MarketInfo(
        exchange=exchange,
        symbol=str(market["symbol"]),
        market_id=str(market["id"]),
        base=str(market.get("base") or ""),
        quote=str(market.get("quote") or ""),
        type=str(market.get("type") or "spot"),
        active=market.get("active") is not False,
        min_amount=decimal_text(amounts.get("min")),
        max_amount=decimal_text(amounts.get("max")),
        price_precision=decimal_text(precision.get("price")),
        amount_precision=decimal_text(precision.get("amount")),
        linear=contract.linear,
        contract_size=positive_size(exchange, market),
        quantity_unit=contract.quantity_unit,
        open_interest_unit=unit_of(exchange, str(market["symbol"])) if market.get("contract") else None,
    )


def _side(side: Any) -> Side | None:
    if side == "buy":
        return "buy"
    return "sell" if side == "sell" else None


def _levels(levels: Sequence[Sequence[Any]]) -> Iterator[Level]:
    for level in levels:
        price, amount = decimal_text(level[0]), decimal_text(level[1])
        if price is not None and amount is not None:
            yield price, amount


def _annualised(rate: str, interval: Any) -> str | None:
    """The annualised rate; `interval` is ccxt's text, such as `8h`."""
    is_hours = isinstance(interval, str) and interval.endswith("h")
    return annualised_rate(rate, interval[:-1]) if is_hours else None


def rows_of(result: Any) -> Sequence[Mapping[str, Any]]:
    """The rows of a call's result: one unified dict, a list of them, or a dict of them by symbol."""
    if isinstance(result, Mapping):
        return [result] if isinstance(result.get("symbol"), str) else [v for v in result.values() if v]
    return [row for row in result or () if row]
