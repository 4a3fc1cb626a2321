"""What configuration values are made of: sizes, durations, secrets in files, URLs without their passwords."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import BeforeValidator, Field

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


def redacted_url(url: str) -> str:
    """The URL without its password: `postgresql://user:***@host/db`."""
    return re.sub(r"(//[^/@:]*:)[^@]*(@)", r"\1***\2", re.sub(r"(password=)[^&\s]+", r"\1***", url))


def dsn_with_password(dsn: str, password: str) -> str:
    """The same DSN with this password in its user part."""
    parts = urlsplit(dsn)
    user = (parts.username or "").strip()
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def read_secret(path: Path | None, key: str) -> str:
    """What the file holds, without the blanks around it; `key` names the option in a complaint."""
    if path is None:
        raise ConfigError([Problem(key, "no secret file is named")])
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError([Problem(str(path), f"cannot be read: {reason}")]) from error
