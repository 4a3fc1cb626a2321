"""The options of the section `[influx]`."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from ingestd.config.section import MayHoldSecret, Section
from ingestd.config.servers import require_user
from ingestd.config.values import FilePath, Seconds, SymbolStyle, read_password

ALL_INTERVALS = "all"
_bucket = re.compile(r"[^/\x00-\x1f]{1,200}(/[^/\x00-\x1f]{1,200})?").fullmatch
_interval = re.compile(rf"[1-9][0-9]{{0,3}}[smhdwMy]|{ALL_INTERVALS}").fullmatch


def require_http_url(url: str) -> str:
    """The URL, if it names a server and no more. Otherwise raises ValueError, whose message shows no part of it."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError("has a malformed host or port") from None
    if parts.scheme not in ("http", "https") or not has_host:
        raise ValueError("must begin with http:// or https://, and name a host")
    if "@" in url:
        raise ValueError("has an @: put the user into username, the password into password_file")
    if parts.query or parts.fragment:
        raise ValueError("has a ? or a #: the database goes into bucket, the organisation into org")
    return url.rstrip("/")


def require_bucket(name: str) -> str:
    """The name of a bucket. Raises ValueError if no bucket can have it."""
    if _bucket(name) is None:
        raise ValueError("must be the name of a database, or database/retention policy, each of at most 200 characters")
    return name


def require_interval(interval: str) -> str:
    """The interval of candles, or `all`. Raises ValueError if there is no such interval."""
    if _interval(interval) is None:
        raise ValueError(f"must be an interval such as 1m, 4h or 1d, or {ALL_INTERVALS}")
    return interval


class InfluxConfig(Section):
    """The section `[influx]`. It has more than 15 fields since each is one option of the file.

    `bucket`: the database of InfluxDB 1, followed by `/` and a retention policy if it is not the default one. `org`
    chooses the interface of InfluxDB 2. `candle_interval`: the one interval that is sent, or `all`, each with its tag.
    """

    url: Annotated[str, AfterValidator(require_http_url), MayHoldSecret()] = "http://localhost:8086"
    bucket: Annotated[str, AfterValidator(require_bucket)] = "trading"
    org: Annotated[str | None, Field(min_length=1)] = None
    username: Annotated[str | None, MayHoldSecret(), AfterValidator(lambda name: name and require_user(name))] = None
    password_file: FilePath | None = None
    token_file: FilePath | None = None
    ca_file: FilePath | None = None
    symbol_style: SymbolStyle = "dash"
    candle_interval: Annotated[str, AfterValidator(require_interval)] = "1m"
    trades: bool = False
    ticks: bool = False
    trade_events: bool = True
    indicators: bool = True
    metrics: bool = True
    flush_ms: Annotated[int, Field(ge=1, le=60_000)] = 500
    max_flush_records: Annotated[int, Field(ge=1, le=100_000)] = 5000
    gzip: bool = True
    connect_timeout_s: Seconds = 5.0
    request_timeout_s: Seconds = 10.0

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> InfluxConfig:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file go together")
        if self.username is not None and self.token_file is not None:
            raise ValueError("give either username and password_file, or token_file")
        if self.org is not None and self.token_file is None:
            raise ValueError("org chooses InfluxDB 2, which needs token_file")
        if self.ca_file is not None and not self.url.startswith("https:"):
            raise ValueError("ca_file needs a url that begins with https://")
        return self

    def password(self) -> str:
        """Read the password, on each call, so that the next connection uses a rotated one."""
        return read_password(self.password_file, "influx.password_file")

    def token(self) -> str:
        """Read the token, on each call."""
        return read_password(self.token_file, "influx.token_file")
