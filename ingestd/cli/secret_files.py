"""Finds files that hold a secret and are readable by every user of the machine."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingestd.config import dsn
from ingestd.config.models import Config
from ingestd.config.section import effective
from ingestd.errors import ConfigError, Problem

_SECRET_FILE_KEYS = ("dsn_file", "password_file", "credentials_file", "key_file")


def readable_by_all(config: Config, config_file: Path) -> list[Problem]:
    """List a problem for each secret file that all may read; the configuration counts if it holds a password."""
    found = []
    for name, path in _secret_files(config, config_file):
        with contextlib.suppress(OSError):  # the part that needs the file reports that it cannot be read
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & stat.S_IROTH:
                why = f"holds a secret, and its mode {mode:04o} lets every user of this machine read it"
                found.append(Problem(name, why, str(path), f"chmod o-rwx {path}"))
    return found


def _secret_files(config: Config, config_file: Path) -> Iterator[tuple[str, Path]]:
    document = config.model_dump(mode="json", exclude_none=True)
    if _holds_secret(config_file, document, effective(config)):
        yield "the configuration", config_file
    for section, table in document.items():
        if section == "connections":
            continue  # its keys have stricter rules, of which `ingestd check` tells too
        for index, member in enumerate(table if isinstance(table, list) else [table]):
            name = f"{section}[{index}]" if isinstance(table, list) else section
            for key in _SECRET_FILE_KEYS:
                if isinstance(member, dict) and key in member:
                    yield f"{name}.{key}", Path(member[key])
    if config.database is not None and config.database.dsn is not None:
        with contextlib.suppress(ConfigError):  # it cannot be read
            for key, value in dsn.read(config.database.dsn).items():
                if key in ("sslkey", "passfile"):
                    yield f"database.dsn: {key}", Path(value)


def _holds_secret(config_file: Path, plain: Any, shown: Any) -> bool:
    """Whether a secret value is written in the file itself; it may also come from the environment."""
    try:
        text = config_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(value in text for value in _hidden(plain, shown))


def _hidden(plain: Any, shown: Any) -> Iterator[str]:
    if isinstance(plain, dict) and isinstance(shown, dict):
        for key, value in plain.items():
            yield from _hidden(value, shown.get(key))
    elif isinstance(plain, list) and isinstance(shown, list):
        for one, other in zip(plain, shown, strict=False):
            yield from _hidden(one, other)
    elif isinstance(plain, str) and plain != shown and "***" in str(shown):
        yield plain
