"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_CONFIG = Path("/etc/ingestd/ingestd.toml")

_Command = TypeVar("_Command", bound=Callable[..., Any])


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


config_option = _config_option(lambda _context, _parameter, value: found(value))
# For a group and its commands, so that it may stand before or after the command's name: None where it is left out.
later_config_option = _config_option(None)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")


class Number(click.FloatRange):
    """A number that error messages call "number"."""

    name = "number"


class Integer(click.IntRange):
    """A whole number that error messages call "integer"."""

    name = "integer"
