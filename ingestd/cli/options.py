"""Options that several commands share, and the times they accept: `2h` (ago), or an ISO 8601 time."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_CONFIG = Path("/etc/ingestd/ingestd.toml")
HOW_TO_WRITE_A_TIME = "write 30m, 2h or 7d (ago), or a time (UTC) such as 2026-01-31T12:00"
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

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


def config_file_option(help_text: str, callback: Callable[..., Path] | None = None) -> Callable[[_Command], _Command]:
    """Make the option `-c FILE`, passed as `config_file`: None if it is left out, unless `callback` finds a file."""
    return click.option(
        "-c",
        "--config",
        "config_file",
        type=click.Path(path_type=Path, readable=False),  # reading it says why it cannot be read
        metavar="FILE",
        callback=callback,
        help=help_text,
    )


_HELP = f"The configuration file.  [default: {DEFAULT_CONFIG}, if present]"
config_option = config_file_option(_HELP, lambda _context, _parameter, value: found(value))
# For a group and its commands, so that the option may stand before or after the command's name.
later_config_option = config_file_option(_HELP)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")


def moment(text: str) -> datetime:
    """Parse a time. Without a zone it is UTC; relative times are rounded down to seconds. Raises ValueError."""
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text)
    try:
        if ago is not None:
            return datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=int(ago[1]) * UNITS_S[ago[2]])
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond the calendar") from error


class Number(click.FloatRange):
    """A number that error messages call "number"."""

    name = "number"


class Integer(click.IntRange):
    """A whole number that error messages call "integer"."""

    name = "integer"
