"""Messages about mistakes in the configuration, in plain words and without secrets."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from ingestd.config.models import Config
from ingestd.config.section import options_of, secret_mark
from ingestd.config.values import PATTERN_MESSAGES
from ingestd.errors import Problem

# Replacements for pydantic's messages; the braces are filled with the limit from pydantic's error.
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


def problem_of(detail: Any) -> Problem:
    """Convert one pydantic error to a Problem."""
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
        message = PATTERN_MESSAGES.get(detail["ctx"]["pattern"], message)
    return Problem(_path_text(location), message, value, hint)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """`did you mean "…"?` for the closest known name, or None."""
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.55)
    return f'did you mean "{folded[close[0]]}"?' if close else None


def _shown_input(location: tuple[int | str, ...], value: Any) -> str | None:
    """The value written, or None if it may hold a secret: in a marked option, or of an unexpected type."""
    if _may_hold_secret(location) or not isinstance(value, str | bool | int | float):
        return None
    text = repr(value)
    return None if re.search("@|://|password", text, re.IGNORECASE) else text


def _path_text(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(file)"


def _fields_along(location: tuple[int | str, ...]) -> Iterator[FieldInfo]:
    """Yield the fields along a location, from the section down."""
    fields: Mapping[str, FieldInfo] = Config.model_fields
    for part in location:
        if isinstance(part, str) and part in fields:
            yield fields[part]
            fields = options_of(fields[part])


def _may_hold_secret(location: tuple[int | str, ...]) -> bool:
    return any(secret_mark(field) is not None for field in _fields_along(location))


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    *_, field = [None, *_fields_along(location)]
    return list(Config.model_fields if field is None else options_of(field))
