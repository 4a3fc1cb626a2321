"""Formats plain values as readable TOML; `tomllib.loads` returns the same values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(document: Mapping[str, Any]) -> str:
    """Format tables in the order of `document`, a list of tables as `[[name]]`. TOML has no null, so None must not
    occur."""
    return "\n".join(_lines(document)).strip() + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    tables = {name: value for name, value in document.items() if _is_table(value)}
    yield from (f"{_key(name)} = {_value(value)}" for name, value in document.items() if name not in tables)
    for name, table in tables.items():
        header, members = (f"[[{_key(name)}]]", table) if isinstance(table, list) else (f"[{_key(name)}]", [table])
        for member in members:
            yield ""
            yield header
            yield from (f"{_key(key)} = {_value(value)}" for key, value in member.items())


def _is_table(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(member, Mapping) for member in value)
    return isinstance(value, Mapping)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return repr(value) if isinstance(value, (int, float)) else _string(str(value))


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    """Quote a string with JSON's escapes, which TOML shares; characters that control a terminal are escaped too."""
    return "".join(map(_shown, json.dumps(text, ensure_ascii=False)))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
