"""`ingestd backfill`: fetches a period of one stream's history from the venue into the database."""

from __future__ import annotations

import fnmatch
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ingestd.backfill.on_demand import Report, Wanted
from ingestd.backfill.on_demand import backfill as fill
from ingestd.channels import SERVED
from ingestd.cli.loading import load_checked
from ingestd.cli.options import HOW_TO_WRITE_A_TIME, UNITS_S, config_option, json_option, moment
from ingestd.cli.say import say, say_json
from ingestd.cli.signals import run_to_its_end
from ingestd.clock import to_datetime
from ingestd.config.messages import nearest
from ingestd.config.models import Config, FeedConfig
from ingestd.errors import ConfigError, Problem
from ingestd.files import private
from ingestd.ops import logs

_SHOWN_AT_MOST = 20


@click.command()
@config_option
@click.option("--exchange", required=True, help="The exchange id of one of the configured feeds.")
@click.option("--symbol", required=True, help="The unified symbol, such as BTC/USDT.")
@click.option("--channel", required=True, type=click.Choice(SERVED), help="What to fetch.")
@click.option(
    "--from",
    "start",
    required=True,
    metavar="TIME",
    help="Start of the range, exchange time, UTC: 2026-11-01T12:00, or 2h (ago).",
)
@click.option(
    "--to",
    "end",
    metavar="TIME",
    help="End of the range, exclusive.  [default: a minute ago, or the running candle's start]",
)
@click.option("--again", is_flag=True, help="Fetch again what an earlier run has finished.")
@json_option
def backfill(
    config_file: Path, exchange: str, symbol: str, channel: str, start: str, end: str | None, again: bool, as_json: bool
) -> None:
    """Fetch past records of one stream from its venue and store them.

    May run beside the daemon. Rows that are stored already are not changed. After an interruption, run it again with
    the same times: it continues. If it cannot prove that everything which the venue has of the range is stored, it
    prints the times that may be missing and exits with 1.
    """
    config = load_checked(config_file)
    logs.configure(config.log)
    feed = _feed(config, exchange, symbol, channel)
    until = _default_end(channel, feed.candle_timeframe) if end is None else _instant("--to", end)
    wanted = Wanted(exchange, symbol, channel, _instant("--from", start), until)
    if wanted.span_us <= 0 and end is None:
        late = f"is not before the end, which is {until:%Y-%m-%dT%H:%M:%S}: what is newer may not be final"
        raise ConfigError([Problem("--from", late, repr(start))])
    if wanted.span_us <= 0:
        raise ConfigError([Problem("--to", "is not after --from", repr(end))])
    with private():
        report = run_to_its_end(_with_progress_bar(config, feed, wanted, again))
    if as_json:
        missing = [{"from": to_datetime(one.start_us), "to": to_datetime(one.end_us)} for one in report.missing]
        told = {**asdict(report), "missing": missing, "proved": report.is_proved}
        say_json(orjson.dumps({**told, "from": wanted.start, "to": wanted.end}))
    else:
        say(f"{report.stored} new rows of {report.fetched} fetched; {report.verdict}")
    for stretch in report.missing[:_SHOWN_AT_MOST]:
        say(f"ingestd: not proved to be stored: {stretch}", err=True)
    if len(report.missing) > _SHOWN_AT_MOST:
        say(f"ingestd: and {len(report.missing) - _SHOWN_AT_MOST} more stretches; --json lists all", err=True)
    if not report.is_proved:
        raise SystemExit(1)


async def _with_progress_bar(config: Config, feed: FeedConfig, wanted: Wanted, again: bool) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{wanted.symbol} {wanted.channel}", total=1.0)

        def show(share: float, report: Report) -> None:
            text = f"{wanted.symbol} {wanted.channel}: {report.stored} new rows"
            bar.update(task, completed=share, description=text)

        return await fill(config, feed, wanted, again=again, progress=show)


def _feed(config: Config, exchange: str, symbol: str, channel: str) -> FeedConfig:
    """Choose the configured feed whose options to use: if possible the one that captures this channel and symbol."""
    feeds = [feed for feed in config.feeds if feed.exchange == exchange]
    if not feeds:
        known = sorted({feed.exchange for feed in config.feeds})
        hint = nearest(exchange.lower(), known) or f"there is {', '.join(known) or 'none'}"
        raise ConfigError([Problem("--exchange", "no feed of this exchange is configured", repr(exchange), hint)])

    def fits(feed: FeedConfig) -> tuple[bool, bool, bool]:
        globbed = any(fnmatch.fnmatchcase(symbol, name) for name in feed.symbols)
        return channel in feed.channels, symbol in feed.symbols, globbed

    return max(feeds, key=fits)


def _default_end(channel: str, timeframe: str) -> datetime:
    """Return the default of --to. Newer data may still be in the daemon's journal, or not be final."""
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    if channel == "open_interest":
        timeframe = "5m"
    elif channel != "candles":
        return now
    midnight = now.replace(hour=0, minute=0, second=0)
    count, unit = int(timeframe[:-1]), timeframe[-1]
    if unit in UNITS_S:
        step_s = count * UNITS_S[unit]
        return datetime.fromtimestamp(int(now.timestamp()) // step_s * step_s, UTC)
    if unit == "w":
        return midnight - timedelta(days=midnight.weekday())
    return midnight.replace(day=1) if unit == "M" else midnight.replace(month=1, day=1)


def _instant(option: str, text: str) -> datetime:
    try:
        instant = moment(text)
    except ValueError as error:
        raise ConfigError([Problem(option, "is no time", repr(text), HOW_TO_WRITE_A_TIME)]) from error
    if instant > datetime.now(UTC):
        raise ConfigError([Problem(option, "is in the future", repr(text))])
    return instant
