"""What configuration values are made of: sizes, durations, texts and secrets in files, addresses."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from ingestd.config.secrets import hide
from ingestd.errors import ConfigError, Problem

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?\s*", re.IGNORECASE)
_SIZE_UNITS = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


def parse_size_bytes(value: object) -> int:
    """`"10GiB"`, `"64MB"` or a plain number of bytes. Raises ValueError on anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("write a size such as 10GiB or 64MiB")
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError("write a size such as 10GiB or 64MiB")
    return int(float(match.group(1)) * _SIZE_UNITS[(match.group(2) or "B").lower()])


SizeBytes = Annotated[int, BeforeValidator(parse_size_bytes), Field(gt=0)]
Days = Annotated[int, Field(ge=0, le=36_500)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


def read_text(path: Path) -> str:
    """The text of a file, without a byte order mark. Raises OSError, or ValueError that says how to save the file."""
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise ValueError("it is UTF-16, or no text at all: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start}): save it as UTF-8") from None


def why_unreadable(error: OSError | ValueError) -> str:
    """Why a file cannot be read or written, in a few words and without its name."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "this user may not"
    if isinstance(error, IsADirectoryError):
        return "it is a directory"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def read_secret(path: Path | None, key: str) -> str:
    """What the file holds, without the blanks around it; `key` names the option in a complaint."""
    if path is None:
        raise ConfigError([Problem(key, "no secret file is named")])
    try:
        secret = read_text(path).strip()
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        raise ConfigError([Problem(key, f"{path} cannot be read: {why_unreadable(error)}")]) from error
    if not secret:
        raise ConfigError([Problem(key, f"{path} is empty")])
    return secret


def read_password(path: Path | None, key: str) -> str:
    """The same for a file that holds only a password; from then on no message shows it."""
    password = read_secret(path, key)
    hide(password)
    return password


def require_redis_url(url: str) -> str:
    """The URL, where the client can use it. Raises ValueError; no message shows a part of the URL."""
    if _REDIS_SCHEME.match(url) is None:
        raise ValueError("must begin with redis://, rediss://, redis+sentinel://, redis+cluster:// or unix://")
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        _ = [urlsplit(f"//{host}").port for host in hosts]
    except ValueError:
        raise ValueError("has a malformed host or port; in a password write @ as %40 and / as %2F") from None
    if "@" in f"{parts.path}{parts.query}{parts.fragment}" or re.search(r"\s", url):
        raise ValueError("has an @ or a blank that may be in the password: write @ as %40, / as %2F, a blank as %20")
    if parts.fragment:
        raise ValueError("has a #: write it as %23")
    kind = parts.scheme.partition("+")[2]
    if not kind and parts.scheme != "unix" and re.fullmatch(r"/?|/\d{1,6}", parts.path) is None:
        raise ValueError("must end with the database's number, such as redis://localhost:6379/0")
    if kind == "sentinel" and not parts.path.strip("/"):
        raise ValueError("names no master: write redis+sentinel://host:26379,host:26379/mymaster")
    if not kind and len(hosts) > 1:
        raise ValueError("has several hosts: begin it with redis+sentinel:// or redis+cluster://")
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        _require_redis_option(name, value, tls=parts.scheme.startswith("rediss"))
    return url


def require_broker(server: str) -> str:
    """The address, where it is `host:port` and nothing else. Raises ValueError that does not show it."""
    if _BROKER.fullmatch(server) is None:
        raise ValueError("must be host:port of one broker; put a user into username, a password into password_file")
    return server


_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_REDIS_SCHEME = re.compile(r"(rediss?(\+(sentinel|cluster))?|unix)://")
_BOOLEAN = r"(?i:true|false|yes|no|on|off|[tfyn01])"
_NUMBER = r"\d{1,9}(\.\d{1,6})?"
# What a URL may set: the client's parameters that are not set by options of the configuration.
_REDIS_OPTIONS = {
    **dict.fromkeys(("username", "password", "sentinel_username", "sentinel_password", "client_name"), r".+"),
    "db": r"\d{1,6}",
    "health_check_interval": _NUMBER,
    "socket_keepalive": _BOOLEAN,
}
# What the library takes in a URL, and earlier versions took there without any effect.
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


def require_path(path: Path) -> Path:
    """Raises ValueError for what can be no name of a file."""
    if "\0" in str(path):
        raise ValueError("has a NUL character, which no name of a file can have")
    return path


FilePath = Annotated[Path, AfterValidator(require_path)]
RedisUrl = Annotated[str, AfterValidator(require_redis_url)]
Broker = Annotated[str, AfterValidator(require_broker)]
