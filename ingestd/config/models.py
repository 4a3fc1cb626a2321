"""The configuration: one TOML file, `INGESTD_SECTION__KEY` environment overrides, secrets by `*_file`.

Loading opens no socket and never stops at the first mistake: `ConfigError` carries them all.
Whether an exchange exists and has a channel is asked elsewhere (`feeds.catalog`), since it needs the exchange library.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo

from ingestd.channels import ROWS, Channel
from ingestd.config import dsn as config_dsn
from ingestd.config.overlap import is_pattern, overlaps
from ingestd.config.secrets import hide, secrets_in, secrets_of_url, shown_url, shown_value
from ingestd.config.values import (
    Broker,
    Days,
    FilePath,
    RedisUrl,
    Seconds,
    SizeBytes,
    read_password,
    read_secret,
    read_text,
    why_unreadable,
)
from ingestd.errors import ConfigError, Problem

ENV_PREFIX = "INGESTD_"
_HIGHEST_PORT = 65_535

WhenFull = Literal["block", "drop_oldest", "conflate"]

_INSTANCE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
_KAFKA_NAME = r"^[A-Za-z0-9._-]{1,100}$"
_HOST_AND_PORT = r"^.+:\d{1,5}$"
_EXCHANGE_ID = r"^[a-z0-9_]+$"
# Keys whose value is a path, taken from the configuration file's own folder.
_FILE_KEYS = (
    "dsn_file", "password_file", "symbols_file", "credentials_file", "ca_file", "certificate_file", "key_file",
)  # fmt: skip


class _Section(BaseModel):
    # A number from the environment where a text is wanted is that number's text: INGESTD_INSTANCE__NAME=7.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, coerce_numbers_to_str=True)


def _options(fields: Mapping[str, Any]) -> Any:
    """A section with one option for each channel, or for each of their tables."""
    return create_model("_Options", __base__=_Section, **fields)


class InstanceConfig(_Section):
    name: Annotated[str, Field(pattern=_INSTANCE)] = "ingestd-1"
    role: Literal["all", "feed", "sink"] = "all"
    state_dir: FilePath = Path("/var/lib/ingestd")
    shutdown_deadline_s: Seconds = 10.0
    standby: bool = False
    lease_ttl_s: Annotated[float, Field(ge=1, le=600)] = 6.0


class LogConfig(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


_when_full = _options({row.name: (WhenFull, "block") for row in ROWS})


class WhenFullConfig(_when_full):  # type: ignore[misc, valid-type]  # made of the rows
    """What becomes of a channel's records while the intake is more than half full."""


class IntakeConfig(_Section):
    linger_ms: Annotated[int, Field(ge=1, le=1000)] = 20
    max_batch_records: Annotated[int, Field(ge=1, le=100_000)] = 5000
    max_open_records: Annotated[int, Field(ge=100, le=1_000_000)] = 50_000
    max_open_bytes: SizeBytes = 64 * 2**20
    when_full: WhenFullConfig = WhenFullConfig()


class JournalConfig(_Section):
    max_bytes: SizeBytes = 10 * 2**30
    file_bytes: SizeBytes = 64 * 2**20
    memory_bytes: SizeBytes = 16 * 2**20
    when_full: Literal["block", "drop_oldest"] = "block"


class DatabaseConfig(_Section):
    dsn: str | None = None
    dsn_file: FilePath | None = None
    password_file: FilePath | None = None
    flush_ms: Annotated[int, Field(ge=1, le=60_000)] = 250
    max_flush_records: Annotated[int, Field(ge=1, le=100_000)] = 20_000
    pool_size: Annotated[int, Field(ge=1, le=32)] = 2  # of no effect: docs/performance.md, "How many connections"
    connect_timeout_s: Seconds = 5.0
    flush_timeout_s: Seconds = 15.0
    lock_timeout_s: Seconds = 5.0
    direct_compress: bool = False

    @model_validator(mode="after")
    def _one_dsn(self) -> DatabaseConfig:
        if (self.dsn is None) == (self.dsn_file is None):
            raise ValueError("give exactly one of dsn and dsn_file")
        return self

    def resolved_dsn(self) -> str:
        """The DSN with the secret files read, now: a rotated password is picked up at the next connection."""
        dsn = self.dsn if self.dsn is not None else read_secret(self.dsn_file, "database.dsn_file")
        if self.password_file is None:
            return dsn
        return config_dsn.changed(dsn, password=read_password(self.password_file, "database.password_file"))

    def password_from(self) -> str:
        """The option that the password of `resolved_dsn` comes from, if it has one."""
        if self.password_file is not None:
            return f"database.password_file: {self.password_file}"
        return "database.dsn" if self.dsn is not None else f"database.dsn_file: {self.dsn_file}"


class RedisConfig(_Section):
    url: RedisUrl = "redis://localhost:6379/0"
    password_file: FilePath | None = None
    primary_exchange: str = "binance"
    symbol_style: Literal["compact", "unified"] = "compact"
    connect_timeout_s: Seconds = 1.0
    reply_timeout_s: Seconds = 0.3
    cache_flush_ms: Annotated[int, Field(ge=1, le=10_000)] = 50
    candles_kept: Annotated[int, Field(ge=1, le=1500)] = 60
    window_bytes: SizeBytes = 4 * 2**20
    window_commands: Annotated[int, Field(ge=100, le=1_000_000)] = 20_000

    def password(self) -> str | None:
        """The secret in `password_file`, read now."""
        return None if self.password_file is None else read_password(self.password_file, "redis.password_file")


class KafkaConfig(_Section):
    bootstrap_servers: Annotated[list[Broker], Field(min_length=1)] = ["localhost:9092"]
    topic_prefix: Annotated[str, Field(pattern=_KAFKA_NAME)] = "wolfinch"
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
    group_id: Annotated[str, Field(pattern=_KAFKA_NAME)] = "ingestd"
    session_timeout_s: Annotated[float, Field(ge=1, le=1800)] = 15.0
    tls: bool = False
    ca_file: FilePath | None = None
    certificate_file: FilePath | None = None
    key_file: FilePath | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str | None = None
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
        """The SASL password, read now: a rotated one is picked up at the next connection."""
        return read_password(self.password_file, "kafka.password_file")


class HttpConfig(_Section):
    listen: Annotated[str, Field(pattern=_HOST_AND_PORT)] = "127.0.0.1:9108"
    allowed_hosts: list[str] | None = None

    @model_validator(mode="after")
    def _a_port(self) -> HttpConfig:
        if self.port > _HIGHEST_PORT:  # uvloop would listen on the port modulo 65536
            raise ValueError(f"there are {_HIGHEST_PORT} ports")
        return self

    @model_validator(mode="after")
    def _names_alone(self) -> HttpConfig:
        if wrong := [name for name in self.allowed_hosts or () if not re.fullmatch(r"[A-Za-z0-9_.-]+", name)]:
            raise ValueError(f"allowed_hosts are names without scheme and port, unlike {wrong[0]!r}")
        return self

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])


_chunks = _options({f"{row.table}_days": (Annotated[int, Field(ge=1)], row.chunk_days) for row in ROWS})
_compression = _options({f"{row.table}_after_days": (Days, row.compress_after_days) for row in ROWS})
_retention = _options({f"{row.table}_days": (Days, row.retention_days) for row in ROWS if row.retention_days})


class ChunksConfig(_chunks):  # type: ignore[misc, valid-type]  # as above
    """Chunk interval of each hypertable, in days (TimescaleDB only)."""


class CompressionConfig(_compression):  # type: ignore[misc, valid-type]  # as above
    """After how many days a chunk becomes columnar (TimescaleDB Community only); 0: never."""


class RetentionConfig(_retention):  # type: ignore[misc, valid-type]  # as above
    """How many days each table keeps; 0: for ever."""

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


class ValidationConfig(_Section):
    max_ahead_s: Annotated[float, Field(gt=0)] = 60.0


class BackfillConfig(_Section):
    enabled: bool = True
    interval_s: Seconds = 5.0
    rate_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    audit_interval_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    audit_symbols: Annotated[int, Field(ge=1, le=1000)] = 5
    audit_minutes: Annotated[int, Field(ge=1, le=500)] = 10


class FeedConfig(_Section):
    exchange: Annotated[str, Field(pattern=_EXCHANGE_ID)]
    decoder: Literal["auto", "native", "ccxt"] = "auto"
    channels: Annotated[list[Channel], Field(min_length=1)] = ["ticks", "trades", "order_book"]
    symbols: list[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]] = []
    symbols_file: Path | None = None
    max_symbols: Annotated[int, Field(ge=1, le=100_000)] = 5000
    options: dict[str, Any] = {}
    url_map: dict[str, str] = {}
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
        """The API key of a venue that wants one even for market data, read now: TOML with the library's names."""
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


class Config(_Section):
    """The whole file. A sink exists when its section does."""

    instance: InstanceConfig = InstanceConfig()
    log: LogConfig = LogConfig()
    intake: IntakeConfig = IntakeConfig()
    journal: JournalConfig = JournalConfig()
    database: DatabaseConfig | None = None
    redis: RedisConfig | None = None
    kafka: KafkaConfig | None = None
    http: HttpConfig = HttpConfig()
    chunks: ChunksConfig = ChunksConfig()
    compression: CompressionConfig = CompressionConfig()
    retention: RetentionConfig = RetentionConfig()
    validation: ValidationConfig = ValidationConfig()
    backfill: BackfillConfig = BackfillConfig()
    feeds: list[FeedConfig] = []


def load(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read, override and check the file. Raises ConfigError with every mistake.

    Relative `symbols_file` and `*_file` paths are taken from the file's own folder; symbol files are read here and
    merged into `symbols`.
    """
    document = read(path)
    try:
        return parse(document, os.environ if environ is None else environ, base=path.parent)
    except ConfigError as error:
        raise ConfigError(error.problems, path) from error


def read(path: Path) -> dict[str, Any]:
    """The file as it is. Raises ConfigError when there is none, or it is no TOML."""
    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        raise ConfigError([Problem(str(path), f"cannot be read: {why_unreadable(error)}")]) from error
    except ValueError as error:  # of TOML, or of the file's encoding
        raise ConfigError([Problem(str(path), f"is not valid TOML: {error}")]) from error


def parse(document: dict[str, Any], environ: Mapping[str, str], base: Path = Path()) -> Config:
    """Check a document that is already read. Raises ConfigError with every mistake."""
    config, problems = examine(document, environ, base)
    if problems or config is None:
        raise ConfigError(problems)
    return config


def examine(
    document: dict[str, Any], environ: Mapping[str, str], base: Path = Path()
) -> tuple[Config | None, list[Problem]]:
    """What the document says, None where it says nothing that can be understood, and every mistake in it.

    The document is changed: overrides, paths and symbol files are filled in.
    """
    problems: list[Problem] = []
    _apply_environment(document, environ, problems)
    _resolve_paths(document, base)
    _merge_symbol_files(document, problems)
    try:
        config = Config.model_validate(document)
        _hide_secrets(config)
    except ValidationError as error:
        return None, [*problems, *(_problem(detail) for detail in error.errors())]
    return config, [*problems, *overlaps(config.feeds)]


def effective(config: Config) -> dict[str, Any]:
    """The configuration as plain values for printing, passwords replaced by `***`."""
    document: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    if "dsn" in document.get("database", {}):
        document["database"]["dsn"] = config_dsn.shown(document["database"]["dsn"])
    if "redis" in document:
        document["redis"]["url"] = shown_url(document["redis"]["url"])
    for feed in document["feeds"]:
        feed["options"], feed["url_map"] = shown_value(feed["options"]), shown_value(feed["url_map"])
    return document


def _hide_secrets(config: Config) -> None:
    """From now on no message shows what is secret in it; a DSN and a file are hidden when they are read."""
    for feed in config.feeds:
        for secret in [*secrets_in(feed.options), *secrets_in(feed.url_map)]:
            hide(secret)
    for secret in secrets_of_url(config.redis.url) if config.redis is not None else ():
        hide(secret)


def nearest(name: str, known: Iterator[str] | list[str]) -> str | None:
    """`did you mean "…"?` for the closest known name, or None."""
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.5)
    return f'did you mean "{folded[close[0]]}"?' if close else None


def _apply_environment(document: dict[str, Any], environ: Mapping[str, str], problems: list[Problem]) -> None:
    for name, text in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX):
            continue
        if "__" not in name:
            problems += _with_one_underscore(name)
            continue
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        field = Config.model_fields.get(section)
        if field is None or section == "feeds":
            sections = [known for known in Config.model_fields if known != "feeds"]
            hint = nearest(section, sections)
            problems.append(Problem(name, "names no section that can be overridden", repr(section), hint))
            continue
        known_keys = _fields_of(field)
        key = next((known for known in known_keys if known.lower() == key), key)
        target = document.setdefault(section, {})
        if isinstance(target, dict):
            target[key] = _environment_value(text)


def _with_one_underscore(name: str) -> Iterator[Problem]:
    """A variable that is meant to be an override, and is none."""
    section, _, key = name.removeprefix(ENV_PREFIX).partition("_")
    if key and section.lower() in Config.model_fields and section.lower() != "feeds":
        meant = f"{ENV_PREFIX}{section}__{key}"
        yield Problem(name, "overrides nothing", None, f"write {meant}, with two underscores")


def _environment_value(text: str) -> Any:
    """A TOML value where the text is one (numbers, booleans, lists), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _resolve_paths(document: dict[str, Any], base: Path) -> None:
    feeds = document.get("feeds")
    sections = [document.get(name) for name in ("database", "redis", "kafka")]
    tables = [*sections, *(feeds if isinstance(feeds, list) else [])]
    for table in tables:
        if not isinstance(table, dict):
            continue
        for key in _FILE_KEYS:
            if isinstance(table.get(key), str):
                table[key] = str(base / table[key])


def _merge_symbol_files(document: dict[str, Any], problems: list[Problem]) -> None:
    feeds = document.get("feeds")
    for index, feed in enumerate(feeds if isinstance(feeds, list) else []):
        if not isinstance(feed, dict) or not isinstance(feed.get("symbols_file"), str):
            continue
        listed = feed.get("symbols", [])
        try:
            named = symbols_in(Path(feed["symbols_file"]))
        except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
            file = feed["symbols_file"]
            problems.append(Problem(f"feeds[{index}].symbols_file", f"{file} cannot be read: {why_unreadable(error)}"))
            continue
        if isinstance(listed, list):
            feed["symbols"] = list(dict.fromkeys([*listed, *(name for name in named if name)]))


def symbols_in(file: Path) -> list[str]:
    """What each line of a symbols file names; empty: nothing. Raises OSError, or ValueError for what is no text."""
    return [line.partition("#")[0].strip() for line in read_text(file).splitlines()]


# What is said in the place of the library's words; the braces are filled from what it knows of the limit.
_MESSAGES = {
    "list_type": "must be a list, in brackets",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "too_short": "must name at least one",
    "string_type": "must be a text, in quotes",
    "string_too_short": "must not be empty",
    "path_type": "must be the path of a file, in quotes",
    "dict_type": "must be a table, as {{ key = value }}",
    "model_type": "must be a section of keys and values",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
}
_NEVER_SHOWN = {"dsn", "url", "bootstrap_servers", "options", "url_map"}
_NAME = "must be of letters, digits, dots, dashes and underscores"
_PATTERNS = {
    _INSTANCE: f"{_NAME}, at most 63, and begin with a letter or a digit",
    _KAFKA_NAME: f"{_NAME}, at most 100",
    _HOST_AND_PORT: "must be host:port, such as 127.0.0.1:9108",
    _EXCHANGE_ID: "must be an exchange id of ccxt: small letters, digits and underscores",
}


def _problem(detail: Any) -> Problem:
    location = tuple(detail["loc"])
    value = _shown_input(location, detail["input"])
    message = detail["msg"].removeprefix("Value error, ")
    hint = None
    if location == ("feeds",) and isinstance(detail["input"], dict):
        message = "must be a list of feeds: write [[feeds]], with two brackets"
    elif detail["type"] == "model_type" and isinstance(detail["input"], list) and len(location) == 1:
        message = f"is one section: write [{location[0]}], with one bracket"
    elif detail["type"] == "extra_forbidden":
        message = "unknown key"
        value = None
        hint = nearest(str(location[-1]), _keys_at(location[:-1]))
    elif detail["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        message = f"must be one of {', '.join(allowed)}"
        hint = nearest(str(detail["input"]), allowed)
    elif detail["type"] == "missing":
        message, value = "is missing", None
    elif detail["type"] in _MESSAGES:
        message = _MESSAGES[detail["type"]].format(**detail.get("ctx", {}))
    elif detail["type"] == "string_pattern_mismatch":
        message = _PATTERNS.get(detail["ctx"]["pattern"], message)
    return Problem(_path_text(location), message, value, hint)


def _shown_input(location: tuple[int | str, ...], value: Any) -> str | None:
    """What was written, unless a secret may be in it: in an address, and in anything of an unexpected shape."""
    if not set(location).isdisjoint(_NEVER_SHOWN) or not isinstance(value, str | bool | int | float):
        return None
    text = repr(value)
    return None if re.search("@|://|password", text, re.IGNORECASE) else text


def _path_text(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(file)"


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    fields: Mapping[str, FieldInfo] = Config.model_fields
    for part in location:
        if isinstance(part, str) and part in fields:
            fields = _fields_of(fields[part])
    return list(fields)


def _fields_of(field: FieldInfo) -> Mapping[str, FieldInfo]:
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate.model_fields
    return {}
