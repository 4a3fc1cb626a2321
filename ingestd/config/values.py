"""Types of configuration values: sizes, durations, paths, names. Reads texts and secrets from files."""

from __future__ import annotations

import codecs
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ingestd.config.secrets import hide
from ingestd.errors import ConfigError, Problem

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?\s*", re.IGNORECASE)
_SIZE_UNITS = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


def parse_size_bytes(value: object) -> int:
    """Parse `"10GiB"`, `"64MB"` or a plain number of bytes. Raises ValueError on anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a size such as 10GiB or 64MiB")
    return int(float(match[1]) * _SIZE_UNITS[(match[2] or "B").lower()])


SymbolStyle = Literal["unified", "compact", "dash", "venue"]
"""Which of a market's names a sink stores or sends: BTC/USDT, BTCUSDT, BTC-USDT, or the venue's own."""

SizeBytes = Annotated[int, BeforeValidator(parse_size_bytes), Field(gt=0)]
Days = Annotated[int, Field(ge=0, le=36_500)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


def read_text(path: Path) -> str:
    """Read a UTF-8 file without its byte order mark. Raises OSError, or ValueError that says how to save the file."""
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise ValueError("it is UTF-16, or no text at all: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start}): save it as UTF-8") from None


def why_unreadable(error: OSError | ValueError) -> str:
    """Say why a file cannot be read or written, in a few words and without its name."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "this user may not"
    if isinstance(error, IsADirectoryError):
        return "it is a directory"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def read_secret(path: Path | None, key: str) -> str:
    """Read a file's content without surrounding blanks. Raises ConfigError about the option `key` if it has none."""
    assert path is not None, "the section's validator requires the option"
    try:
        secret = read_text(path).strip()
    except (OSError, ValueError) as error:  # an impossible file name is a ValueError
        raise ConfigError([Problem(key, f"{path} cannot be read: {why_unreadable(error)}")]) from error
    if not secret:
        raise ConfigError([Problem(key, f"{path} is empty")])
    return secret


def read_password(path: Path | None, key: str) -> str:
    """Read a file that holds only a password, like `read_secret`, and mask the password from then on (`hide`)."""
    password = read_secret(path, key)
    hide(password)
    return password


def require_path(path: Path) -> Path:
    """Return the path. Raises ValueError if no file can have it."""
    if "\0" in str(path):
        raise ValueError("has a NUL character, which no name of a file can have")
    return path


FilePath = Annotated[Path, AfterValidator(require_path)]


def is_address(text: str) -> bool:
    """Whether the text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_pattern(name: str) -> bool:
    """Whether the name of a symbol is a pattern such as `*/USDT`."""
    return any(character in name for character in "*?[")


# Patterns of names, and the message about a name that does not match.
INSTANCE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
KAFKA_NAME = r"^[A-Za-z0-9._-]{1,100}$"
HOST_AND_PORT = r"^.+:\d{1,5}$"
EXCHANGE_ID = r"^[a-z0-9_]+$"
_NAME = "must be of letters, digits, dots, dashes and underscores"
PATTERN_MESSAGES = {
    INSTANCE: f"{_NAME}, at most 63, and begin with a letter or a digit",
    KAFKA_NAME: f"{_NAME}, at most 100",
    HOST_AND_PORT: "must be host:port, such as 127.0.0.1:9108",
    EXCHANGE_ID: "must be an exchange id of ccxt: small letters, digits and underscores",
}
