"""The measurement `trade_event`: what trading programs have published, as `audit.trade_logs` has it, each row once.

A row's series and time depend only on the event itself, not on what is learned of its order later, so that a row that
is sent again replaces itself. The position is a row of `ingest_positions`, which is moved after the points are stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ingestd.clock import from_datetime
from ingestd.events.messages import SIDES
from ingestd.events.tables import UNKNOWN_EXCHANGE
from ingestd.sinks.influx.lines import is_number
from ingestd.sinks.influx.points import REASON_PREFIX, SAME_NANOSECOND, Flush, Refusal, Told, flush_of
from ingestd.sinks.influx.reports import Reading
from ingestd.storage import trade_log
from ingestd.storage.database import Row
from ingestd.venues.market_names import Names

_TYPES = {
    "pending": "order_submitted",
    "filled": "order_executed",
    "rejected": "order_rejected",
    "cancelled": "order_cancelled",
    "expired": "order_cancelled",
}
_KNOWN = 50_000  # points whose events are remembered

_Key = tuple[frozenset[tuple[str, str | None]], int]


class TradeEvents:
    """Reads the rows after the position, at most `count` at once."""

    measurement = "trade_event"

    def __init__(
        self, reading: Reading, server: str, names: Names, *, default_exchange: str | None, count: int
    ) -> None:
        """`server`: where the points go to, which has a position of its own. `names`: of the symbols that are sent.
        `default_exchange`: of events that name none."""
        self._reading = reading
        self._source = f"influx:{server}"
        self._names = names
        self._default_exchange = default_exchange
        self._count = count
        self._step: tuple[int, int] | None = None  # of the position, by the rows of the last `read`
        self._known: dict[_Key, str] = {}  # ids of events, by what tells their points apart
        self._new: dict[_Key, str] = {}  # of the last `read`

    async def read(self) -> Flush:
        """The points of the next rows. Raises MarketUnknown while a feed is still to bring its list of markets."""
        db = await self._reading.database()
        position = await trade_log.position(db, self._source)
        rows = await trade_log.rows_after(db, position, self._default_exchange, self._count)
        self._step = (position, rows[-1]["seq"]) if rows else None
        self._new = {}
        told: list[Told] = []
        hidden: list[Refusal] = []
        for row in rows:
            event = self._told(row)
            if (other := self._hides(event)) is None:
                told.append(event)
            else:
                error = f"it would replace the event {other}, which has the same tags, and the same time"
                hidden.append(Refusal(event, REASON_PREFIX + SAME_NANOSECOND, error))
        flush = flush_of(told)
        flush.refusals += hidden
        return flush

    async def sent(self) -> None:
        """Move the position."""
        if self._step is not None:
            await trade_log.move(await self._reading.database(), self._source, *self._step)
            self._step = None
        self._known |= self._new
        self._new = {}
        while len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]

    async def close(self) -> None:
        """Drop the connection to the database."""
        await self._reading.close()

    def _hides(self, event: Told) -> str | None:
        """The id of another event that this one would replace, as far as it is remembered; None if there is none."""
        key, event_id = (frozenset(event.tags.items()), event.time_ns), str(event.texts["event_id"])
        other = self._new.get(key) or self._known.get(key)
        if other not in (None, event_id):
            return other
        self._new[key] = event_id
        return None

    def _told(self, row: Row) -> Told:
        said = _said(row["metadata"])
        exchange = said.get("exchange") or (row["exchange"] if "symbol" not in said else self._default_exchange)
        exchange = str(exchange or UNKNOWN_EXCHANGE)
        market = row["market"]
        is_named = market is not None and self._names.has(exchange, market)
        product = self._names.name(exchange, market) if is_named else str(said.get("symbol") or row["symbol"])
        return told(row, said, exchange, product)


def told(row: Mapping[str, Any], said: Mapping[str, Any], exchange: str, product: str) -> Told:
    """The point of a row of `audit.trade_logs`, whose event said this. Pure.

    Times are microseconds at most; the nanoseconds are those of the row's number, so that events of one microsecond
    stay apart.
    """
    is_closing = row["order_id"] is None and "trade_id" in said
    tags = {
        "event_type": "position_closed" if is_closing else _TYPES.get(row["status"] or "", "order"),
        "exchange": exchange,
        "product": product,
        "order_id": row["order_id"] or None,
        "side": _side(row, said),
        "status": row["status"] or None,
    }
    numbers = {
        "price": row["price"],
        "size": row["quantity"],
        **{name: _number(said.get(name)) for name in ("fee", "pnl", "duration")},
    }
    texts = {"event_id": str(row["id"]), "fee_currency": _text(said.get("fee_currency"))}
    return Told("trade_event", tags, numbers, texts, from_datetime(row["timestamp"]) * 1000 + row["seq"] % 1000)


def _said(metadata: str | None) -> dict[str, Any]:
    """What the event itself says, with the digits of its numbers; nothing for a row that another program inserted."""
    said = json.loads(metadata or "{}", parse_float=str, parse_int=str)
    return said if isinstance(said, dict) else {}


def _side(row: Mapping[str, Any], said: Mapping[str, Any]) -> str | None:
    """The event's side, or that of a row that another program inserted: the log's document knows BUY and SELL."""
    stated = said.get("side") if "symbol" in said else row["action"]
    return SIDES.get(stated.lower()) if isinstance(stated, str) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> str | None:
    """The digits, None if it is no number: programs write into events what they like."""
    return value if isinstance(value, str) and is_number(value) else None
