"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_CONFIG = Path("/etc/ingestd/ingestd.toml")

_Command = TypeVar("_Command", bound=Callable[..., Any])


def config_option(command: _Command) -> _Command:
    """`-c FILE`, handed over as `config_file`; the system's own file when it is left out and exists."""
    return _config_option(lambda _context, _parameter, value: found(value))(command)


def later_config_option(command: _Command) -> _Command:
    """`-c FILE` of a group, or of a command of one, which takes it on either side of the command's name: None when left
    out. Ask `found` for the file to read."""
    return _config_option(None)(command)


def found(value: Path | None) -> Path:
    """The file that was named, or the system's own. Raises UsageError where there is neither."""
    if value is not None:
        return value
    if DEFAULT_CONFIG.is_file():
        return DEFAULT_CONFIG
    here = Path("ingestd.toml")
    file = f"-c {here} for the one that is here" if here.is_file() else "-c FILE"
    raise click.UsageError(f"no configuration: give {file}, or put one at {DEFAULT_CONFIG}")


def _config_option(callback: Callable[..., Path] | None) -> Callable[[_Command], _Command]:
    return click.option(
        "-c",
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        callback=callback,
        help=f"The configuration file.  [default: {DEFAULT_CONFIG}, if present]",
    )


class Number(click.FloatRange):
    """A number; the message about a text that is none calls it so."""

    name = "number"


class Integer(click.IntRange):
    """A whole number; the message about a text that is none calls it so."""

    name = "integer"


def json_option(command: _Command) -> _Command:
    """`--json`, handed over as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")(command)
