"""The base class of configuration sections, and the marking of options that may hold a secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from ingestd.config.secrets import secrets_in, shown_value


class Section(BaseModel):
    """A table of the configuration file. An unknown key is refused."""

    # Text options accept a number, because the value of INGESTD_INSTANCE__NAME=7 is read as one. Messages of pydantic
    # show no input, which may be a URL with its password.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        coerce_numbers_to_str=True,
        hide_input_in_errors=True,
    )


@dataclass(frozen=True, slots=True)
class MayHoldSecret:
    """Marks an option whose value may hold a secret, which no message may show.

    `shown` converts the value for the effective configuration; `secrets` lists the texts in the value to mask.
    """

    shown: Callable[[Any], Any] = shown_value
    secrets: Callable[[Any], Sequence[str]] = secrets_in


def secret_mark(field: FieldInfo) -> MayHoldSecret | None:
    """Return an option's secret mark, or None."""
    return next((mark for mark in field.metadata if isinstance(mark, MayHoldSecret)), None)


def marked_values(section: Section) -> Iterator[tuple[MayHoldSecret, Any]]:
    """Yield each marked value that is set, with its mark, in this section and in those inside it."""
    fields = type(section).model_fields
    for name, value in section:
        mark = secret_mark(fields[name])
        if mark is not None and value is not None:
            yield mark, value
        for inside in _sections_in(value):
            yield from marked_values(inside)


def effective(section: Section) -> dict[str, Any]:
    """The section, or the whole configuration, as plain values for printing, with `***` for each secret."""
    document: dict[str, Any] = section.model_dump(mode="json", exclude_none=True)
    fields = type(section).model_fields
    for name, value in section:
        mark = secret_mark(fields[name])
        if name not in document:
            continue
        if mark is not None:
            document[name] = mark.shown(document[name])
        elif isinstance(value, Section):
            document[name] = effective(value)
        elif sections := _sections_in(value):
            document[name] = [effective(inside) for inside in sections]
    return document


def options_of(field: FieldInfo) -> dict[str, FieldInfo]:
    """The options of a field that holds a section or a list of sections; empty for other fields."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return dict(candidate.model_fields)
    return {}


def _sections_in(value: Any) -> list[Section]:
    if isinstance(value, Section):
        return [value]
    return [item for item in value if isinstance(item, Section)] if isinstance(value, list) else []
