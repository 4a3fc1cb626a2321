"""The packs: which there are, the options of each, and what of them contradicts the rest of the configuration.

A pack is a schema with the names of another system's documents. It is a folder of `sql/packs`; `storage/packs.py`
applies it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple, TypeAlias, get_args

from pydantic import Field

from ingestd.config.section import Section
from ingestd.config.values import EXCHANGE_ID
from ingestd.errors import Problem

PackName: TypeAlias = Literal["fks", "ingestion", "kairos", "platform", "wolfinch"]
PACKS: Sequence[str] = get_args(PackName)


class OwnTable(NamedTuple):
    """A pack's own table whose rows the daemon deletes after `[retention] <schema>_<name>_days`; by default never.

    `column`: the time from which the days count; a row without it stays. `condition`: which rows may go.
    """

    pack: str
    schema: str
    name: str
    column: str
    condition: str = "true"
    is_hypertable: bool = False  # on an engine that has them

    @property
    def option(self) -> str:
        return f"{self.schema}_{self.name}_days"

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


OWN_TABLES: Sequence[OwnTable] = (
    OwnTable("fks", "fks", "trades", "time", is_hypertable=True),
    OwnTable("fks", "fks", "balance_history", "time", is_hypertable=True),
    OwnTable("platform", "platform", "executed_orders", "time"),
    OwnTable("platform", "platform", "positions", "closed_at"),
    OwnTable("platform", "platform", "performance_metrics", "time", is_hypertable=True),
    OwnTable("platform", "platform", "user_sessions", "created_at", "expires_at < now()"),
    OwnTable("platform", "platform", "risk_events", "triggered_at"),
    OwnTable("platform", "platform", "system_logs", "time"),
    OwnTable("wolfinch", "analytics", "performance_metrics", "timestamp"),
)


class OneExchange(Section):
    """Options of a pack whose document knows no exchange: its views show the markets of this one."""

    exchange: Annotated[str | None, Field(pattern=EXCHANGE_ID)] = None


class Fks(OneExchange):
    """Which candles `ohlcv_data` shows: of two of one time the preferred one, made from trades or the exchange's; or
    only those of the exchange."""

    candles: Literal["both", "exchange"] = "both"
    prefer: Literal["trades", "exchange"] = "trades"


class Platform(Section):
    """`market_data` shows candles of one interval."""

    interval: Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1M"] = "1m"


class PacksConfig(Section):
    """The section `[packs]`: one table for each pack that has options.

    Each option is a function `option_<name>()` in the pack's schema, which its first migration makes and
    `ingestd migrate` gives the configured value.
    """

    fks: Fks = Fks()
    platform: Platform = Platform()
    ingestion: OneExchange = OneExchange()

    def options_of(self, pack: str) -> dict[str, str]:
        """The options of a pack by name, empty if it has none."""
        options = getattr(self, pack, None)
        return {} if options is None else {name: str(value) for name, value in options if value is not None}


def contradictions(packs: Sequence[str], options: PacksConfig, captured: Collection[str]) -> Iterator[Problem]:
    """Yield a problem for each of these packs that needs an exchange which is not named, or which no feed has.

    `captured`: the exchanges of the feeds. A daemon without feeds, such as one of the role sink, does not know which
    exchanges others capture.
    """
    for pack in packs:
        section = getattr(options, pack, None)
        if section is None or "exchange" not in type(section).model_fields:
            continue
        path = f"packs.{pack}.exchange"
        if section.exchange is None:
            yield Problem(path, "is missing: the pack's document knows no exchange, so name one of a feed")
        elif captured and section.exchange not in captured:
            hint = f"feeds: {', '.join(sorted(captured))}"
            yield Problem(path, "no feed has this exchange", repr(section.exchange), hint)
