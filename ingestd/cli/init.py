"""`ingestd init`: writes a first configuration that `ingestd check` accepts."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from ingestd.cli.check import notes_of
from ingestd.cli.loading import load_runnable
from ingestd.cli.options import DEFAULT_CONFIG
from ingestd.cli.say import say
from ingestd.config.dsn import shown
from ingestd.config.secrets import MASK
from ingestd.config.toml_text import to_toml
from ingestd.errors import ConfigError, Problem

_DSN = "postgresql://ingestd@localhost:5432/market"
_SYSTEM_STATE = Path("/var/lib/ingestd")
_STANDARD_OUTPUT = "-"

_HEAD = """\
# Check it: ingestd check -c FILE. Make its tables: ingestd migrate -c FILE. Capture: ingestd run -c FILE.
# Every option has a default; all of them, with what they mean: config/ingestd.toml in the source.

[instance]
{name}             # of this daemon; of several with one name only one captures
{state_dir} # the journal is here: what is captured and not stored yet

# A sink exists when its section does: [database], [redis], [kafka], [influx].
[database]                    # TimescaleDB or plain PostgreSQL; the password may be in a file: password_file = "..."
{dsn}

# [redis]                     # live channels and caches
# url = "redis://localhost:6379/0"

# [kafka]                     # a topic for each channel
# bootstrap_servers = ["localhost:9092"]

# [influx]                    # candles for InfluxDB
# url = "http://localhost:8086"

[http]
listen = "127.0.0.1:9108"     # /metrics, /livez, /readyz
"""

_FEED = """
[[feeds]]
{exchange}
# offered: {offered}
{channels}
{symbols} # names or patterns; to list its markets: ingestd exchanges {name} --match "*/USDT"
"""


@click.command()
@click.option(
    "--exchange", "exchanges", multiple=True, help="An exchange to capture; may be repeated. [default: binance]"
)
@click.option(
    "--symbols",
    multiple=True,
    metavar="SYMBOL[,SYMBOL]",
    help="What to capture: unified symbols or patterns. [default: its bitcoin market, such as BTC/USDT]",
)
@click.option("--dsn", default=_DSN, show_default=True, help="The database.")
@click.option(
    "-o",
    "--output",
    default="ingestd.toml",
    show_default=True,
    metavar="FILE",
    help="The file to write; - is standard output.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(exchanges: tuple[str, ...], symbols: tuple[str, ...], dsn: str, output: str, force: bool) -> None:
    """Write a first configuration, with comments. Not interactive; opens no connection.

    If the DSN holds a password, only you may read the file. If `ingestd check` would refuse the configuration, exits
    with 2 and writes no file.
    """
    wanted = [symbol.strip() for listed in symbols for symbol in listed.split(",") if symbol.strip()]
    if symbols and not wanted:
        raise click.UsageError("--symbols names no symbol")
    if output != _STANDARD_OUTPUT and (problem := _why_no_file(output)):
        raise ConfigError([problem])
    if output != _STANDARD_OUTPUT and not force and os.path.lexists(output):
        raise click.UsageError(f"{output} exists: --force replaces it, --output names another file")
    text = _composed(tuple(dict.fromkeys(exchanges)) or ("binance",), wanted, dsn)
    if output == _STANDARD_OUTPUT:
        _require_sound(text)
        say(text, nl=False)
        return
    _write(Path(output), text, is_secret=MASK in shown(dsn), force=force)
    given = "" if Path(output).absolute() == DEFAULT_CONFIG else f" -c {output}"
    say(f"wrote {output}. Next: ingestd check{given}, ingestd migrate{given}, ingestd run{given}", err=True)


def _why_no_file(output: str) -> Problem | None:
    """Why there cannot be a file at this path; None if there can."""
    if not output:
        return Problem("--output", "names no file")
    if os.path.isdir(output) or output.endswith("/"):
        return Problem(output, "is a directory", hint=f"name a file in it: {Path(output) / 'ingestd.toml'}")
    folder = os.path.dirname(output)
    if folder and not os.path.lexists(folder):
        hint = f"create it: mkdir -p {shlex.quote(folder)}"
        return Problem(output, f"the folder {folder} does not exist", hint=hint)
    return None


def _composed(exchanges: Sequence[str], wanted: Sequence[str], dsn: str) -> str:
    from ingestd.feeds import catalog

    text = _HEAD.format(
        name=_line("name", "ingestd-1"), state_dir=_line("state_dir", str(_state_dir())), dsn=_line("dsn", dsn)
    )
    for exchange in exchanges:
        offered = catalog.offer(exchange).channels
        symbols = list(wanted) or [catalog.first_symbol(exchange)]
        channels = catalog.usual_channels(exchange, symbols)
        if not channels:
            message = "serves no channel of these symbols without an API key"
            raise ConfigError(
                [Problem(exchange, message, ", ".join(symbols), "write its feed by hand, with credentials_file")]
            )
        text += _FEED.format(
            exchange=_line("exchange", exchange),
            channels=_line("channels", list(channels)),
            offered=", ".join(offered),
            symbols=_line("symbols", symbols),
            name=exchange,
        )
    return text


def _line(key: str, value: object) -> str:
    return to_toml({key: value}).strip()


def _state_dir() -> Path:
    """A state directory that this user may write to: the system's for root and the service's user, else one at home."""
    if os.geteuid() == 0 or os.access(_SYSTEM_STATE, os.W_OK):
        return _SYSTEM_STATE
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "ingestd"


def _require_sound(text: str) -> None:
    """Check the text as `ingestd check` does, and print the notes. Raises ConfigError with the mistakes."""
    with tempfile.TemporaryDirectory(prefix="ingestd-init-") as folder:  # readable by this user only
        file = Path(folder) / "ingestd.toml"
        file.write_text(text, encoding="utf-8")
        try:
            config = load_runnable(file)
        except ConfigError as error:
            raise ConfigError(error.problems) from error
    for note in notes_of(config):
        say(f"ingestd: note: {note}", err=True)


def _write(path: Path, text: str, *, is_secret: bool, force: bool) -> None:
    """Write the file atomically; keep an existing file unless `force`. Raises ConfigError."""
    _require_sound(text)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if is_secret else 0o644)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            if force:
                os.replace(beside, path)
            else:
                os.link(beside, path)  # fails if the file exists by now
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError([Problem(str(path), f"cannot be written: {error.strerror or error}")]) from error
