"""`ingestd gaps`: lists the periods in which data may be missing, why, and what to do about it."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson

from ingestd.cli.loading import load_for_database
from ingestd.cli.options import HOW_TO_WRITE_A_TIME, Integer, config_option, json_option, moment
from ingestd.cli.say import counted, say, say_json
from ingestd.cli.signals import run_to_its_end
from ingestd.config.messages import nearest
from ingestd.config.models import Config
from ingestd.config.values import is_pattern
from ingestd.errors import ConfigError, Problem, SchemaError
from ingestd.gaps.causes import explanation, status_meanings
from ingestd.printable import printable
from ingestd.storage import symbol_style
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.gap_ledger import GapChoice, GapRow, count_gaps, has_data, known_streams, list_gaps
from ingestd.venues.symbol_names import nearest_markets

_CALL_TIMEOUT_S = 60.0

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # also the full-width forms
_UNKNOWN = "neither the configuration nor the database has it"


class _Moment(click.ParamType):  # type: ignore[type-arg] # not generic at run time in every version
    """`2h` (ago), or an ISO 8601 time; without a zone it is UTC."""

    name = "time"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            since = moment(value)
        except ValueError:
            self.fail(f"{value!r} is no time; {HOW_TO_WRITE_A_TIME}", param, ctx)
        if since > datetime.now(UTC):
            self.fail(f"{value!r} is in the future, of which no gap is known", param, ctx)
        return since


@click.command()
@config_option
@click.option("--open", "open_only", is_flag=True, help="Only gaps that are still open.")
@click.option("--exchange", help="Only this exchange.")
@click.option("--symbol", help="Only this symbol, such as BTC/USDT.")
@click.option(
    "--since", type=_Moment(), help="Only gaps that ended after this time or are open: 2h, 7d (ago), or a time (UTC)."
)
@click.option(
    "--limit", type=Integer(1, 1_000_000), default=100, show_default=True, help="Print at most this many, the newest."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print the gaps as CSV.")
@json_option
def gaps(
    config_file: Path,
    open_only: bool,
    exchange: str | None,
    symbol: str | None,
    since: datetime | None,
    limit: int,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List the gaps, newest first, and explain their causes.

    Each row is a period in which one stream (exchange, symbol, channel) may lack data: its start, length and cause, and
    the number of rows recovered since. The missing data lies between start and end on both our clock and the venue's.
    An exchange or symbol that is neither configured nor known to the database is an error (exit code 2).
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    config = load_for_database(config_file)
    choice = GapChoice(open_only, exchange, symbol, since)
    rows, counts, none = run_to_its_end(_read(config, choice, limit))
    now = datetime.now(UTC)
    if as_csv:
        say(to_csv(rows, now), nl=False)
    elif as_json:
        say_json(to_json(rows, counts, now))
    else:
        say(to_text(rows, counts, now) if rows else none)


async def _read(config: Config, choice: GapChoice, limit: int) -> tuple[list[GapRow], dict[str, int], str]:
    """Read the rows, the number of gaps by status, and the message to print if there are no rows."""
    database = await DatabaseAccess(config).connect(call_timeout_s=_CALL_TIMEOUT_S)
    try:
        if not await database.fetchval("SELECT to_regclass('public.feed_gaps') IS NOT NULL"):
            raise SchemaError(f"{database.target}: has no table of gaps: run `ingestd migrate -c FILE`")
        await symbol_style.require(database)
        rows, counts = await list_gaps(database, choice, limit), await count_gaps(database, choice)
        if rows:
            return rows, counts, ""
        await _require_known(config, database, choice)
        return rows, counts, await _no_gap_message(database, choice)
    finally:
        await database.close()


async def _no_gap_message(database: Database, choice: GapChoice) -> str:
    """The message if no gap matches: other gaps may exist, or nothing may have been captured yet."""
    unfilled = await count_gaps(database, replace(choice, open_only=False, since=None))
    unfilled.pop("filled", None)
    if left := sum(unfilled.values()):
        none = "No gap is open now" if choice.open_only else "No gap lasted until then"
        verbs = ("has", "is") if left == 1 else ("have", "are")
        return f"{none}; {left} {verbs[0]} ended and {verbs[1]} not filled: ingestd gaps"
    if not await known_streams(database) and not await has_data(database, None, None):
        return "No gap: nothing has been captured into this database yet."
    return "No gap: nothing that was asked for is known to be missing."


async def _require_known(config: Config, database: Database, choice: GapChoice) -> None:
    """Raises ConfigError for an unknown exchange or symbol: "no gap" would be misleading there."""
    if choice.exchange is None and choice.symbol is None:
        return
    streams = await known_streams(database)
    streams |= {(feed.exchange, name) for feed in config.feeds for name in feed.symbols if not is_pattern(name)}
    exchanges = {exchange for exchange, _ in streams} | {feed.exchange for feed in config.feeds}
    problems, of_exchange = [], choice.exchange
    if of_exchange is not None and of_exchange not in exchanges and not await has_data(database, of_exchange, None):
        hint = nearest(of_exchange.lower(), sorted(exchanges)) or _known(exchanges)
        problems.append(Problem("--exchange", _UNKNOWN, repr(of_exchange), hint))
        of_exchange = None
    if choice.symbol is not None:
        symbols = {symbol for exchange, symbol in streams if of_exchange in (None, exchange)}
        if choice.symbol not in symbols and not await has_data(database, of_exchange, choice.symbol):
            elsewhere = sorted({exchange for exchange, symbol in streams if symbol == choice.symbol})
            hint = f"{', '.join(elsewhere)} has it" if elsewhere else nearest_markets(choice.symbol, sorted(symbols))
            where = f", of {of_exchange}" if of_exchange else ""
            problems.append(Problem("--symbol", _UNKNOWN + where, repr(choice.symbol), hint or None))
    if problems:
        raise ConfigError(problems)


def _known(names: Collection[str]) -> str:
    return f"there is {', '.join(sorted(names))}" if names else "there is none"


def to_text(rows: Sequence[GapRow], counts: dict[str, int], now: datetime) -> str:
    """Format a table, followed by the meanings of its statuses and causes."""
    total = sum(counts.values())
    header = ("started (UTC)", "lasted", "status", "exchange", "channel", "symbol", "cause", "recovered", "detail")
    table = [header, *(_cells(row, now) for row in rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(header) - 1)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(cells, widths, strict=False)), cells[-1]]) for cells in table]
    summary = ", ".join(f"{count} {printable(status)}" for status, count in counts.items())
    shown = "" if len(rows) == total else f"; the newest {len(rows)} are shown, --limit shows more"
    lines += ["", f"{counted(total, 'gap')}: {summary}{shown}.", ""]
    lines += [line for lines_of in _meanings(rows, counts).values() for line in lines_of]
    for cause in sorted({row.cause for row in rows}):
        about = explanation(cause)
        lines += ["", f"{printable(cause)}: {about.meaning}", f"    What to do: {about.remedy}"]
    return "\n".join(line.rstrip() for line in lines)


def to_json(rows: Sequence[GapRow], counts: dict[str, int], now: datetime) -> bytes:
    """One JSON object: the rows, the number of gaps by status, and the meanings of their statuses and causes."""
    causes = {cause: asdict(explanation(cause)) for cause in sorted({row.cause for row in rows})}
    listed = [{**asdict(row), "lasted_s": row.lasted_s(now)} for row in rows]
    statuses = {status: " ".join(lines) for status, lines in _meanings(rows, counts).items()}
    told = {"gaps": listed, "counts": counts, "statuses": statuses, "causes": causes}
    return orjson.dumps(told, option=orjson.OPT_UTC_Z)


def to_csv(rows: Sequence[GapRow], now: datetime) -> str:
    """A header and one line per gap; times in ISO 8601, UTC; without control characters and spreadsheet formulas."""
    out = io.StringIO()
    names = [field.name for field in fields(GapRow)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, "lasted_s"])
    for row in rows:
        writer.writerow([*map(_csv_cell, asdict(row).values()), f"{row.lasted_s(now):.6f}"])
    return out.getvalue()


def _meanings(rows: Sequence[GapRow], counts: Collection[str]) -> dict[str, list[str]]:
    """The meaning of each status for the channels shown with it; for a status not shown, for any channel."""
    return {status: status_meanings(status, {row.channel for row in rows if row.status == status}) for status in counts}


def _cells(row: GapRow, now: datetime) -> tuple[str, ...]:
    lasted = lasted_text(row.lasted_s(now)) + (" so far" if row.ended_at is None else "")
    return (
        f"{row.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3],
        lasted,
        *(printable(text) for text in (row.status, row.exchange, row.channel, row.symbol, row.cause)),
        str(row.recovered_rows),
        printable(row.detail or ""),
    )


def _csv_cell(value: object) -> object:
    """A text that a spreadsheet would compute as a formula begins with a quote, which marks it as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def lasted_text(seconds: float) -> str:
    """`0.052 s`, `12.3 s`, `4 min 05 s`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 1:
        return f"{seconds:.3f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
