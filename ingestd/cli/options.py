"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_CONFIG = Path("/etc/ingestd/ingestd.toml")

_Command = TypeVar("_Command", bound=Callable[..., Any])


def config_option(command: _Command) -> _Command:
    """Add `-c FILE`, passed as `config_file`; the default is the system's configuration file, if it exists."""
    return _config_option(lambda _context, _parameter, value: found(value))(command)


def later_config_option(command: _Command) -> _Command:
    """Add `-c FILE` to a group or its commands, so that it may stand before or after the command's name. None if
    omitted; `found` returns the file to read."""
    return _config_option(None)(command)


def found(value: Path | None) -> Path:
    """Return the given file, or the system's configuration file. Raises UsageError if there is neither."""
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
    """A number that error messages call "number"."""

    name = "number"


class Integer(click.IntRange):
    """A whole number that error messages call "integer"."""

    name = "integer"


def json_option(command: _Command) -> _Command:
    """Add `--json`, passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")(command)
