"""A reader of line protocol, written from the reference and from nothing of ours: what a server makes of a line.

https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/: a backslash escapes a comma, an equals
sign or a blank in tags, a comma or a blank in a measurement, a quote or a backslash in a text; before any other
character it stands for itself.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple


class ReadPoint(NamedTuple):
    """A point as a server understands it."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, Decimal | str | bool]
    time_ns: int


def read_line(line: str) -> ReadPoint:
    """Read one line. Raises ValueError if a server would refuse it."""
    if "\n" in line or line.startswith("#"):
        raise ValueError("not one line")
    name, at = _word(line, 0, stops=", ", escapes=", ")
    tags: dict[str, str] = {}
    while line[at] == ",":
        key, at = _word(line, at + 1, stops="=, ", escapes=",= ")
        if line[at] != "=":
            raise ValueError("a tag without a value")
        value, at = _word(line, at + 1, stops=",= ", escapes=",= ")
        if line[at] == "=" or not key or not value or key in tags:
            raise ValueError("a malformed tag")
        tags[key] = value
    fields: dict[str, Decimal | str | bool] = {}
    end = at
    while line[end] == " " if not fields else line[end] == ",":
        key, at = _word(line, end + 1, stops="=, ", escapes=",= ")
        if line[at] != "=" or not key or key in fields:
            raise ValueError("a malformed field")
        fields[key], end = _value(line, at + 1)
    if not name or line[end] != " ":
        raise ValueError("a malformed line")
    time_ns = int(line[end + 1 :])
    if not -(2**63) <= time_ns < 2**63:
        raise ValueError("no such time")
    return ReadPoint(name, tags, fields, time_ns)


def _word(line: str, at: int, stops: str, escapes: str) -> tuple[str, int]:
    """The word that begins there, unescaped, and the place of the character that ends it."""
    word = ""
    while at < len(line):
        if line[at] == "\\" and at + 1 < len(line) and line[at + 1] in escapes:
            word, at = word + line[at + 1], at + 2
        elif line[at] in stops:
            return word, at
        else:
            word, at = word + line[at], at + 1
    raise ValueError("the line ends within a word")


def _value(line: str, at: int) -> tuple[Decimal | str | bool, int]:
    if line[at] != '"':
        end = min(place for place in (line.find(",", at), line.find(" ", at)) if place >= 0)
        word = line[at:end]
        if word in ("t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE"):
            return word[0] in "tT", end
        number = Decimal(word)
        if not number.is_finite() or not any(character.isdigit() for character in word):
            raise ValueError("not a number")
        return number, end
    text, at = "", at + 1
    while line[at] != '"':
        if line[at] == "\\" and line[at + 1] in '"\\':
            at += 1
        text, at = text + line[at], at + 1
    return text, at + 1
