"""The sections of servers that several rooms use: the database and Kafka."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from ingestd.config.dsn import EXAMPLE, PATH, VARIABLE, changed, of_environment, shown
from ingestd.config.packs import PackName
from ingestd.config.secrets import why_doubtful
from ingestd.config.section import MayHoldSecret, Section
from ingestd.config.values import KAFKA_NAME, FilePath, Seconds, SizeBytes, SymbolStyle, read_password, read_secret
from ingestd.errors import ConfigError, Problem

_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")


def require_broker(server: str) -> str:
    """Return the address if it is `host:port` or a host alone. Raises ValueError without quoting it."""
    if _BROKER.fullmatch(server) is None:
        raise ValueError("must be host:port of one broker; put a user into username, a password into password_file")
    return server


Broker = Annotated[str, AfterValidator(require_broker)]


def require_user(name: str) -> str:
    """Return a user's name. Raises ValueError, without quoting it, if it may have a password in it."""
    if (doubt := why_doubtful(name)) is not None:
        raise ValueError(doubt)
    return name


MarketTable: TypeAlias = Literal[
    "market_ticks", "trades", "order_book", "oi_snapshots", "funding", "ohlcv_data", "liquidations", "mark_prices"
]


class DatabaseConfig(Section):
    dsn: Annotated[str | None, MayHoldSecret(shown, lambda _: ())] = None  # its secrets are masked when it is read
    dsn_file: FilePath | None = None
    password_file: FilePath | None = None
    flush_ms: Annotated[int, Field(ge=1, le=60_000)] = 250
    max_flush_records: Annotated[int, Field(ge=1, le=100_000)] = 20_000
    pool_size: Annotated[
        int | None, Field(ge=1, le=32, deprecated="has no effect: each part of ingestd opens one connection of its own")
    ] = None
    connect_timeout_s: Seconds = 5.0
    flush_timeout_s: Seconds = 15.0
    lock_timeout_s: Seconds = 5.0
    symbol_style: SymbolStyle = "unified"
    direct_compress: bool = False
    packs: list[PackName] = []
    time_indexes: list[MarketTable] = []

    @model_validator(mode="after")
    def _one_dsn(self) -> DatabaseConfig:
        if self.dsn is not None and self.dsn_file is not None:
            raise ValueError("give exactly one of dsn and dsn_file")
        return self

    def resolved_dsn(self) -> str:
        """Return the DSN: the option's, the file's, or that of the variable DATABASE_URL.

        Files are read on each call, so that each connection uses the current password. Raises ConfigError if there is
        none.
        """
        dsn = self._given()
        if self.password_file is None:
            return dsn
        return changed(dsn, password=read_password(self.password_file, "database.password_file"))

    def _given(self) -> str:
        if self.dsn is not None:
            return self.dsn
        if self.dsn_file is not None:
            return read_secret(self.dsn_file, "database.dsn_file")
        found = of_environment()
        if found is None:
            hint = f"{EXAMPLE}, or name its file in dsn_file, or set the variable {VARIABLE}"
            raise ConfigError([Problem(PATH, "is missing", hint=hint)])
        return found

    def password_from(self) -> str:
        """Name the option that supplies the password of `resolved_dsn`, if it has one."""
        if self.password_file is not None:
            return f"database.password_file: {self.password_file}"
        if self.dsn_file is not None:
            return f"database.dsn_file: {self.dsn_file}"
        return PATH if self.dsn is not None else f"the variable {VARIABLE}"


class KafkaConfig(Section):
    """The section `[kafka]`. It has more than 15 fields since each is one option of the file."""

    bootstrap_servers: Annotated[list[Broker], Field(min_length=1), MayHoldSecret()] = ["localhost:9092"]
    topic_prefix: Annotated[str, Field(pattern=KAFKA_NAME)] = "wolfinch"
    symbol_style: SymbolStyle = "unified"
    create_topics: bool = True
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 6
    replication: Annotated[int, Field(ge=1, le=9)] = 1
    retention_hours: Annotated[int, Field(ge=0, le=876_000)] = 168
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "zstd"
    idempotent: bool = True
    flush_ms: Annotated[int, Field(ge=1, le=60_000)] = 50
    max_flush_records: Annotated[int, Field(ge=1, le=100_000)] = 5000
    max_batch_bytes: SizeBytes = 256 * 2**10
    max_message_bytes: SizeBytes = 1_000_000
    request_timeout_s: Seconds = 10.0
    delivery_timeout_s: Seconds = 30.0
    group_id: Annotated[str, Field(pattern=KAFKA_NAME)] = "ingestd"
    session_timeout_s: Annotated[float, Field(ge=1, le=1800)] = 15.0
    tls: bool = False
    ca_file: FilePath | None = None
    certificate_file: FilePath | None = None
    key_file: FilePath | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: Annotated[str | None, MayHoldSecret(), AfterValidator(lambda name: name and require_user(name))] = None
    password_file: FilePath | None = None

    @model_validator(mode="after")
    def _whole_credentials(self) -> KafkaConfig:
        if self.sasl_mechanism is not None and (self.username is None or self.password_file is None):
            raise ValueError("sasl_mechanism needs username and password_file")
        if self.sasl_mechanism is None and (self.username is not None or self.password_file is not None):
            raise ValueError("username and password_file need sasl_mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
        files = (self.ca_file, self.certificate_file, self.key_file)
        if not self.tls and any(file is not None for file in files):
            raise ValueError("ca_file, certificate_file and key_file need tls = true")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        return self

    def password(self) -> str:
        """Read the SASL password, on each call, so that the next connection uses a rotated one."""
        return read_password(self.password_file, "kafka.password_file")
