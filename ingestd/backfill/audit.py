"""Compares our one-minute candles with the venue's own, a few symbols at a time, and opens gaps where they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from ingestd.clock import now_us, to_datetime
from ingestd.config.models import BackfillConfig, FeedConfig
from ingestd.ops.metrics import Metrics
from ingestd.records import Candle
from ingestd.storage import candle_audit
from ingestd.storage.candle_audit import MINUTE_US
from ingestd.storage.database import Database

log = structlog.get_logger()

_SETTLED_US = MINUTE_US  # time for the last trades of a closed minute to be stored


class History(Protocol):
    """The part of the venue's history client that the audit uses."""

    config: FeedConfig

    def symbols(self) -> list[str]: ...
    async def candles(self, symbol: str, timeframe: str, since_us: int) -> list[Candle]: ...


class Auditor:
    """Audits the symbols of each venue in rotation, some in each turn."""

    def __init__(self, config: BackfillConfig, metrics: Metrics, holds: Callable[[str, str], bool]) -> None:
        self._config = config
        self._metrics = metrics
        self._holds = holds
        self._next: dict[str, int] = {}  # by exchange: index of the next symbol

    async def turn(self, db: Database, history: History) -> None:
        """Audit the next few symbols of this venue. Raises FeedError."""
        exchange = history.config.exchange
        symbols = [symbol for symbol in history.symbols() if self._holds(exchange, symbol)]
        for _ in range(min(len(symbols), self._config.audit_symbols)):
            index = self._next.get(exchange, 0) % len(symbols)
            self._next[exchange] = index + 1
            await self._audit(db, history, symbols[index])

    async def _audit(self, db: Database, history: History, symbol: str) -> None:
        exchange = history.config.exchange
        end_us = (now_us() - _SETTLED_US) // MINUTE_US * MINUTE_US
        since_us = end_us - self._config.audit_minutes * MINUTE_US
        start_us = await candle_audit.judged_since_us(db, exchange, symbol, since_us)
        if start_us is None or start_us >= end_us:
            return
        theirs = await history.candles(symbol, "1m", start_us)
        gaps = await candle_audit.known_gaps(db, exchange, symbol, start_us, end_us)
        judged = [candle for candle in theirs if start_us <= candle.time < end_us and not _is_within(candle, gaps)]
        ours = await candle_audit.our_minutes(db, exchange, symbol, start_us, end_us)
        size = await candle_audit.comparable_volume(db, exchange, symbol)
        agreeing, wrong = candle_audit.compare(ours, judged, size)
        self._metrics.candle_audits.labels(exchange, "agree").inc(agreeing)
        self._metrics.candle_audits.labels(exchange, "differ").inc(len(wrong))
        for disagreement in wrong:
            if await candle_audit.record(db, disagreement):
                log.warning(
                    "candle_differs",
                    exchange=exchange,
                    symbol=symbol,
                    minute=str(to_datetime(disagreement.theirs.time)),
                    fields=disagreement.fields,
                )


def _is_within(candle: Candle, gaps: Sequence[tuple[datetime, datetime]]) -> bool:
    start, end = to_datetime(candle.time), to_datetime(candle.time + MINUTE_US)
    return any(started < end and ended > start for started, ended in gaps)
