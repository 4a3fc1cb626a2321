"""`ingestd backfill`: a stretch of one stream's past, from the venue into the database."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ingestd.backfill.on_demand import Report, Wanted
from ingestd.backfill.on_demand import backfill as fill
from ingestd.cli.check import load_checked
from ingestd.cli.options import config_option, json_option
from ingestd.config import Config, FeedConfig
from ingestd.errors import ConfigError, Problem
from ingestd.ops import logs

CHANNELS = ["trades", "candles", "funding", "open_interest"]


@click.command()
@config_option
@click.option("--exchange", required=True, help="The exchange id of one of the configured feeds.")
@click.option("--symbol", required=True, help="The unified symbol, such as BTC/USDT.")
@click.option("--channel", required=True, type=click.Choice(CHANNELS))
@click.option("--from", "start", required=True, metavar="TIME", help="The first exchange time, UTC: 2026-11-01T12:00")
@click.option("--to", "end", metavar="TIME", help="The first no longer wanted.  [default: a minute ago]")
@click.option("--again", is_flag=True, help="Ask again for what an earlier run has finished.")
@json_option
def backfill(
    config_file: Path, exchange: str, symbol: str, channel: str, start: str, end: str | None, again: bool, as_json: bool
) -> None:
    """Fetch a stretch of the past from a venue and store it.

    May run beside the daemon. What is stored already is left as it is. Interrupted, it goes on where it was when it is
    called again with the same times.
    """
    config = load_checked(config_file)
    logs.configure(config.log)
    wanted = Wanted(exchange, symbol, channel, _instant("--from", start), _instant("--to", end))
    if wanted.span_us <= 0:
        raise ConfigError([Problem("--to", "is not after --from", end)])
    if wanted.end > datetime.now(UTC):
        raise ConfigError([Problem("--to", "is in the future", end)])
    report = asyncio.run(_with_progress_bar(config, _feed(config, exchange, channel), wanted, again))
    if as_json:
        click.echo(orjson.dumps({**asdict(report), "from": wanted.start, "to": wanted.end}))
        return
    click.echo(f"{report.stored} new rows of {report.fetched} fetched; {report.verdict}")
    if report.rejected:
        click.echo(f"{report.rejected} were put aside in rejected_records")


async def _with_progress_bar(config: Config, feed: FeedConfig, wanted: Wanted, again: bool) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{wanted.symbol} {wanted.channel}", total=1.0)

        def show(share: float, report: Report) -> None:
            text = f"{wanted.symbol} {wanted.channel}: {report.stored} new rows"
            bar.update(task, completed=share, description=text)

        return await fill(config, feed, wanted, again=again, progress=show)


def _feed(config: Config, exchange: str, channel: str) -> FeedConfig:
    """The feed whose options say what its stream is; one that streams the channel before one that does not."""
    feeds = [feed for feed in config.feeds if feed.exchange == exchange]
    if not feeds:
        known = ", ".join(feed.exchange for feed in config.feeds)
        raise ConfigError(
            [Problem("--exchange", "no feed of this exchange is configured", exchange, f"there is {known}")]
        )
    return next((feed for feed in feeds if channel in feed.channels), feeds[0])


def _instant(option: str, text: str | None) -> datetime:
    if text is None:
        # What is newer may be on its way through the daemon's journal.
        return datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError([Problem(option, "is no time", text, "write 2026-11-01T12:00:00")]) from error
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
