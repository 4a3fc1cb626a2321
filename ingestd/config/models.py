"""The sections of the configuration file and the whole `Config`: the type and default of each option.

`config/loading.py` reads the file. The sections of sinks come from `SINKS` (`sinks/table.py`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, StringConstraints, create_model, model_validator

from ingestd.channels import ROWS, Channel
from ingestd.config.connections import ConnectionsConfig
from ingestd.config.indicators import IndicatorsConfig
from ingestd.config.packs import OWN_TABLES, PacksConfig
from ingestd.config.secrets import hide
from ingestd.config.section import MayHoldSecret, Section
from ingestd.config.servers import DatabaseConfig as DatabaseConfig  # re-exported for the rooms
from ingestd.config.servers import KafkaConfig as KafkaConfig
from ingestd.config.values import (
    EXCHANGE_ID,
    HOST_AND_PORT,
    INSTANCE,
    Days,
    FilePath,
    Seconds,
    SizeBytes,
    is_pattern,
    read_secret,
)
from ingestd.errors import ConfigError, Problem
from ingestd.sinks.table import SINKS

_HIGHEST_PORT = 65_535

WhenFull = Literal["block", "drop_oldest", "conflate"]

SectionT = TypeVar("SectionT", bound=Section)


def _options(fields: Mapping[str, Any]) -> Any:
    """Build a section with these options, one for each channel or for each channel's table."""
    return create_model("_Options", __base__=Section, **fields)


class InstanceConfig(Section):
    name: Annotated[str, Field(pattern=INSTANCE)] = "ingestd-1"
    role: Literal["all", "feed", "sink"] = "all"
    state_dir: FilePath = Path("/var/lib/ingestd")
    shutdown_deadline_s: Seconds = 10.0
    standby: bool = False
    lease_ttl_s: Annotated[float, Field(ge=1, le=600)] = 6.0


class LogConfig(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


_when_full = _options({row.name: (WhenFull, "block") for row in ROWS})


class WhenFullConfig(_when_full):  # type: ignore[misc, valid-type]  # made from ROWS
    """What the intake does with a channel's records while it is more than half full."""


class IntakeConfig(Section):
    linger_ms: Annotated[int, Field(ge=1, le=1000)] = 20
    max_batch_records: Annotated[int, Field(ge=1, le=100_000)] = 5000
    max_open_records: Annotated[int, Field(ge=100, le=1_000_000)] = 50_000
    max_open_bytes: SizeBytes = 64 * 2**20
    when_full: WhenFullConfig = WhenFullConfig()


class JournalConfig(Section):
    max_bytes: SizeBytes = 10 * 2**30
    file_bytes: SizeBytes = 64 * 2**20
    memory_bytes: SizeBytes = 16 * 2**20
    when_full: Literal["block", "drop_oldest"] = "block"


class HttpConfig(Section):
    listen: Annotated[str, Field(pattern=HOST_AND_PORT)] = "127.0.0.1:9108"
    allowed_hosts: list[str] | None = None

    @model_validator(mode="after")
    def _valid_listen_and_hosts(self) -> HttpConfig:
        if self.port > _HIGHEST_PORT:  # uvloop would listen on the port modulo 65536
            raise ValueError(f"the port must be at most {_HIGHEST_PORT}")
        if wrong := [name for name in self.allowed_hosts or () if not re.fullmatch(r"[A-Za-z0-9_.-]+", name)]:
            raise ValueError(f"allowed_hosts are names without scheme and port, unlike {wrong[0]!r}")
        return self

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])


_chunks = _options({f"{row.table}_days": (Annotated[int, Field(ge=1)], row.days.chunk) for row in ROWS})
_compression = _options({f"{row.table}_after_days": (Days, row.days.compressed_after) for row in ROWS})
_retention = _options(
    {f"{row.table}_days": (Days, row.days.kept) for row in ROWS if row.days.kept}
    | {table.option: (Days, 0) for table in OWN_TABLES}
)


class ChunksConfig(_chunks):  # type: ignore[misc, valid-type]  # as above
    """Chunk interval of each hypertable, in days (TimescaleDB only)."""

    indicators_cache_days: Annotated[int, Field(ge=1)] = 7


class CompressionConfig(_compression):  # type: ignore[misc, valid-type]  # as above
    """Age in days at which a chunk becomes columnar (TimescaleDB Community only); 0: never."""

    indicators_cache_after_days: Days = 7


class RetentionConfig(_retention):  # type: ignore[misc, valid-type]  # as above
    """Days for which each table keeps rows; 0: for ever."""

    ohlcv_data_minutes_days: Days = 365  # 1m to 30m
    ohlcv_data_hours_days: Days = 730  # 1h to 12h
    ohlcv_data_days_days: Days = 3650  # 1d, 1w, 1M
    candles_1m_days: Days = 365
    candles_5m_days: Days = 365
    candles_15m_days: Days = 365
    candles_30m_days: Days = 365
    candles_1h_days: Days = 730
    candles_4h_days: Days = 730
    candles_1d_days: Days = 3650
    candles_1w_days: Days = 3650
    candles_1month_days: Days = 3650
    ohlcv_1h_days: Days = 730
    rejected_records_days: Days = 30


class RefreshRule(Section):
    """How the server refreshes one relation that it computes (TimescaleDB Community). None: ingestd's own choice."""

    back_days: Annotated[int, Field(ge=1)] | None = None
    settled_minutes: Annotated[int, Field(ge=1)] | None = None
    every_minutes: Annotated[int, Field(ge=1)] | None = None


class RefreshConfig(Section):
    """By relation; those of packs begin with the pack's schema."""

    candles_1m: RefreshRule = RefreshRule()
    candles_5m: RefreshRule = RefreshRule()
    candles_15m: RefreshRule = RefreshRule()
    candles_30m: RefreshRule = RefreshRule()
    candles_1h: RefreshRule = RefreshRule()
    candles_4h: RefreshRule = RefreshRule()
    candles_1d: RefreshRule = RefreshRule()
    candles_1w: RefreshRule = RefreshRule()
    ohlcv_1h: RefreshRule = RefreshRule()
    fks_daily_account_performance: RefreshRule = RefreshRule()
    fks_hourly_exchange_ohlcv: RefreshRule = RefreshRule()


class ValidationConfig(Section):
    max_ahead_s: Annotated[float, Field(gt=0)] = 60.0


class BackfillConfig(Section):
    enabled: bool = True
    interval_s: Seconds = 5.0
    rate_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    audit_interval_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    audit_symbols: Annotated[int, Field(ge=1, le=1000)] = 5
    audit_minutes: Annotated[int, Field(ge=1, le=500)] = 10


class EventsConfig(Section):
    default_exchange: Annotated[str | None, Field(pattern=EXCHANGE_ID)] = None


class FeedConfig(Section):
    exchange: Annotated[str, Field(pattern=EXCHANGE_ID)]
    decoder: Literal["auto", "native", "ccxt"] = "auto"
    channels: Annotated[list[Channel], Field(min_length=1)] = ["ticks", "trades", "order_book"]
    symbols: list[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]] = []
    symbols_file: Path | None = None
    max_symbols: Annotated[int, Field(ge=1, le=100_000)] = 5000
    options: Annotated[dict[str, Any], MayHoldSecret()] = {}
    url_map: Annotated[dict[str, str], MayHoldSecret()] = {}
    credentials_file: FilePath | None = None
    stale_after_s: Seconds = 30.0
    poll_interval_s: Seconds = 60.0
    order_book_levels: Annotated[int, Field(ge=1, le=5000)] = 20
    order_book_interval_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 1000
    book_audit_interval_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    candle_timeframe: str = "1m"

    @model_validator(mode="after")
    def _some_symbols(self) -> FeedConfig:
        if not self.symbols and self.symbols_file is None:
            raise ValueError("give symbols or symbols_file")
        named = sum(not is_pattern(name) for name in self.symbols)
        if named > self.max_symbols:
            raise ValueError(
                f"names {named} symbols, and max_symbols is {self.max_symbols}: raise it, or use two feeds"
            )
        return self

    def credentials(self) -> dict[str, str]:
        """Read the API key, which some venues require for market data, from a TOML file with ccxt's names."""
        if self.credentials_file is None:
            return {}
        try:
            document = tomllib.loads(read_secret(self.credentials_file, "feeds.credentials_file"))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(
                [Problem("feeds.credentials_file", f"{self.credentials_file} is not valid TOML: {error}")]
            ) from error
        credentials = {name: str(value) for name, value in document.items()}
        for secret in credentials.values():
            hide(secret)
        return credentials

    @property
    def label(self) -> str:
        """The feed's name in logs, metrics and task names."""
        return self.exchange


class _BeforeSinks(Section):
    instance: InstanceConfig = InstanceConfig()
    log: LogConfig = LogConfig()
    intake: IntakeConfig = IntakeConfig()
    journal: JournalConfig = JournalConfig()


if TYPE_CHECKING:
    _WithSinks = _BeforeSinks
else:  # one section for each row of SINKS
    _WithSinks = create_model(
        "_WithSinks", __base__=_BeforeSinks, **{kind.section: (kind.options | None, None) for kind in SINKS.values()}
    )


class Config(_WithSinks):
    """The whole configuration. A sink exists if its section does."""

    # Also in SINKS; declared here because other rooms use these servers too.
    database: DatabaseConfig | None = None
    kafka: KafkaConfig | None = None
    http: HttpConfig = HttpConfig()
    chunks: ChunksConfig = ChunksConfig()
    compression: CompressionConfig = CompressionConfig()
    retention: RetentionConfig = RetentionConfig()
    refresh: RefreshConfig = RefreshConfig()
    validation: ValidationConfig = ValidationConfig()
    backfill: BackfillConfig = BackfillConfig()
    packs: PacksConfig = PacksConfig()
    events: EventsConfig = EventsConfig()
    indicators: IndicatorsConfig = IndicatorsConfig()
    connections: ConnectionsConfig = ConnectionsConfig()
    feeds: list[FeedConfig] = []

    def section(self, options: type[SectionT]) -> SectionT:
        """Return the section of this type. Raises ConfigError if the file does not have it."""
        for _, value in self:
            if isinstance(value, options):
                return value
        raise ConfigError([Problem(options.__name__, "its section is missing")])
