"""The options of the section `[redis]`, and the check of its URL."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import parse_qsl, unquote

from pydantic import AfterValidator, Field

from ingestd.config.secrets import is_secret_name, why_doubtful
from ingestd.config.section import MayHoldSecret, Section
from ingestd.config.urls import split_url
from ingestd.config.values import FilePath, Seconds, SizeBytes, SymbolStyle, read_password

_REDIS_SCHEME = re.compile(r"(rediss?(\+(sentinel|cluster))?|unix)://")
_BOOLEAN = r"(?i:true|false|yes|no|on|off|[tfyn01])"
_NUMBER = r"\d{1,9}(\.\d{1,6})?"
# Client parameters that a URL may set: those that no option of the configuration sets.
_REDIS_OPTIONS = {
    **dict.fromkeys(("username", "password", "sentinel_username", "sentinel_password", "client_name"), r".+"),
    "db": r"\d{1,6}",
    "health_check_interval": _NUMBER,
    "socket_keepalive": _BOOLEAN,
}
# Parameters that the library takes in a URL. Earlier versions of ingestd accepted them there without effect.
_REDIS_ELSEWHERE = {
    "socket_timeout": "set redis.reply_timeout_s instead",
    "socket_connect_timeout": "set redis.connect_timeout_s instead",
    "protocol": "leave it out, it has no effect",
    "retry_on_timeout": "leave it out, every failure is tried again",
}
_REDIS_TLS_OPTIONS = {
    **dict.fromkeys(
        ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_ciphers"), r".+"
    ),
    "ssl_cert_reqs": "none|optional|required",
    "ssl_check_hostname": _BOOLEAN,
}


def require_redis_url(url: str) -> str:
    """The URL, if the client can use it. Otherwise raises ValueError, whose message shows no part of the URL."""
    if _REDIS_SCHEME.match(url) is None:
        raise ValueError("must begin with redis://, rediss://, redis+sentinel://, redis+cluster:// or unix://")
    try:
        parts, servers = split_url(url)
    except ValueError:
        raise ValueError("has a malformed host or port; in a password write @ as %40 and / as %2F") from None
    if "@" in f"{parts.path}{parts.query}{parts.fragment}" or re.search(r"\s", url):
        raise ValueError("has an @ or a blank that may be in the password: write @ as %40, / as %2F, a blank as %20")
    if parts.fragment:
        raise ValueError("has a #: write it as %23")
    user, _, hosts = parts.netloc.rpartition("@")
    for place, value in (("user", user.partition(":")[0]), ("host", hosts), ("path", parts.path)):
        _require_no_secret_within(place, unquote(value))
    kind = parts.scheme.partition("+")[2]
    if not kind and parts.scheme != "unix" and re.fullmatch(r"/?|/\d{1,6}", parts.path) is None:
        raise ValueError("must end with the database's number, such as redis://localhost:6379/0")
    if kind == "sentinel" and not parts.path.strip("/"):
        raise ValueError("names no master: write redis+sentinel://host:26379,host:26379/mymaster")
    if kind and not all(host for host, _ in servers):
        raise ValueError("has an empty host; write host:port,host:port")
    if not kind and len(servers) > 1:
        raise ValueError("has several hosts: begin it with redis+sentinel:// or redis+cluster://")
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        _require_redis_option(name, value, tls=parts.scheme.startswith("rediss"))
    return url


def _require_redis_option(name: str, value: str, *, tls: bool) -> None:
    pattern = (_REDIS_OPTIONS | _REDIS_TLS_OPTIONS).get(name)
    if name in _REDIS_ELSEWHERE:
        raise ValueError(f"has {name}: {_REDIS_ELSEWHERE[name]}")
    if pattern is None:
        known = ", ".join(_REDIS_OPTIONS | _REDIS_TLS_OPTIONS)
        raise ValueError(f"has a parameter that it cannot have; it may have {known}")
    if name in _REDIS_TLS_OPTIONS and not tls:
        raise ValueError(f"has {name}, which needs rediss://")
    if re.fullmatch(pattern, value) is None:
        raise ValueError(f"has a value of {name} that is not allowed")
    if not is_secret_name(name):
        _require_no_secret_within(name, value)


def _require_no_secret_within(place: str, value: str) -> None:
    if (doubt := why_doubtful(value)) is not None:
        raise ValueError(f"is doubtful: its {place} {doubt}")


class RedisConfig(Section):
    url: Annotated[str, AfterValidator(require_redis_url), MayHoldSecret()] = "redis://localhost:6379/0"
    password_file: FilePath | None = None
    primary_exchange: str = "binance"
    symbol_style: SymbolStyle = "compact"
    connect_timeout_s: Seconds = 1.0
    reply_timeout_s: Seconds = 0.3
    cache_flush_ms: Annotated[int, Field(ge=1, le=10_000)] = 50
    candles_kept: Annotated[int, Field(ge=1, le=1500)] = 60
    window_bytes: SizeBytes = 4 * 2**20
    window_commands: Annotated[int, Field(ge=100, le=1_000_000)] = 20_000

    def password(self) -> str | None:
        """The secret in `password_file`, read now."""
        return None if self.password_file is None else read_password(self.password_file, "redis.password_file")
