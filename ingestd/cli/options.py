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
    option = click.option(
        "-c",
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=_or_default,
        help=f"The configuration file.  [default: {DEFAULT_CONFIG}, if present]",
    )
    return option(command)


def json_option(command: _Command) -> _Command:
    """`--json`, handed over as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")(command)


def _or_default(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    if value is not None:
        return value
    if DEFAULT_CONFIG.is_file():
        return DEFAULT_CONFIG
    raise click.UsageError(f"no configuration: give -c FILE, or put one at {DEFAULT_CONFIG}")
