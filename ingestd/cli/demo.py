"""`ingestd demo`: runs the pipeline on this machine, from a venue's socket to candles in SQL, and checks the result."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table

from ingestd.cli.options import Integer, Number, json_option
from ingestd.cli.say import say, say_json, say_progress
from ingestd.cli.signals import run_to_its_end
from ingestd.config.dsn import shown
from ingestd.files import private
from ingestd.lab.demo import run
from ingestd.lab.demo import verdict as demo_verdict
from ingestd.lab.demo.run import Account, Plan
from ingestd.lab.demo.verdict import Verdict
from ingestd.printable import printable

_WIDTH_IN_A_FILE = 160
_TERMS = ("sent", "received", "journaled", "stored", "duplicate", "rejected", "dropped")


@click.command()
@click.option("--seconds", type=Number(min=1), default=15.0, show_default=True, help="How long to capture.")
@click.option("--rate", type=Number(min=1), default=500.0, show_default=True, help="Trades and ticks a second.")
@click.option("--symbols", type=Integer(min=1), default=6, show_default=True, help="How many markets.")
@click.option(
    "--capture", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Replay a recorded capture."
)
@click.option("--live", is_flag=True, help="Use the real Binance instead of the simulator.")
@click.option("--dsn", help="Use this server (TimescaleDB, say); a temporary database is created on it.")
@click.option("--keep", is_flag=True, help="Leave the database running and print its DSN.")
@json_option
def demo(
    seconds: float,
    rate: float,
    symbols: int,
    capture: Path | None,
    live: bool,
    dsn: str | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Run the whole pipeline on this machine and verify the result.

    Starts an embedded PostgreSQL (or creates a database on --dsn), Valkey, a Kafka-compatible broker, a simulated
    Binance (or a recorded capture, or with --live the real one) and the daemon, all on free ports of 127.0.0.1.
    Captures for --seconds, stops the daemon as systemd would, and compares what the venue sent with what arrived in the
    tables, in the topics and at a subscriber: every trade and tick, digit for digit, once; and the candles.

    Prints a line with ok or FAIL for each comparison, and a verdict; ends with exit code 1 if one fails. Takes about
    half a minute, writes to a temporary folder only, and leaves nothing running without --keep. Needs the extra
    `embedded`, and internet access only for --live.
    """
    if live and capture is not None:
        raise click.UsageError("--live and --capture exclude each other")
    plan = Plan(seconds, rate, symbols, capture, dsn, keep, live)
    with private():
        account, verdict = run_to_its_end(_run(plan))
    _print(account, verdict)
    if keep:
        say(f"the database is still there: {shown(account.dsn)}")
    if as_json:
        say_json(orjson.dumps(_document(account, verdict)))
    if not verdict.ok:
        raise SystemExit(1)


async def _run(plan: Plan) -> tuple[Account, Verdict]:
    async with run.run(plan, say_progress) as account:
        return account, await demo_verdict.judge(account)


def _print(account: Account, verdict: Verdict) -> None:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_WIDTH_IN_A_FILE)
    console.print(_flow_table(account, verdict))
    if verdict.last_candles:
        console.print(_candle_table(verdict))
    for check in verdict.checks:
        line = f"{'ok  ' if check.holds else 'FAIL'} {check.name}: {check.found}"
        console.print(printable(line), soft_wrap=True)
    console.print(
        f"\nverdict: {'ok' if verdict.ok else 'failed'} "
        f"({len(verdict.checks)} checks, {account.seconds:g} s, {verdict.gaps} gaps)"
    )


def _flow_table(account: Account, verdict: Verdict) -> Table:
    table = Table(
        title="What the venue sent, and where it is",
        caption="of an order book the venue sends changes; what is stored are samples of the whole book. "
        "Redis shows the ticks of one exchange, and no books on channels",
    )
    for name in ("channel", *_TERMS, "table", "rows", "Redis messages", "Kafka messages"):
        table.add_column(name, justify="left" if name in ("channel", "table") else "right", no_wrap=True)
    flow = {"sent": account.sent, **account.counts}
    redis, kafka = demo_verdict.arrived(account)
    for channel, relation in demo_verdict.CHANNEL_TABLES.items():
        if any(flow[term].get(channel) for term in _TERMS):
            cells = [str(flow[term].get(channel, 0)) for term in _TERMS]
            messages = (str(counts[channel]) if channel in counts else "" for counts in (redis, kafka))
            table.add_row(channel, *cells, relation, str(verdict.rows[relation]), *messages)
    return table


def _candle_table(verdict: Verdict) -> Table:
    table = Table(title="The last candles (candles_1m)")
    for name in verdict.last_candles[0]:
        table.add_column(name, justify="left" if name in ("exchange", "symbol", "bucket_start") else "right")
    for candle in verdict.last_candles:
        values = candle.values()
        table.add_row(*(f"{v:%Y-%m-%d %H:%M}" if isinstance(v, datetime) else printable(str(v)) for v in values))
    return table


def _document(account: Account, verdict: Verdict) -> dict[str, object]:
    flow = {"sent": account.sent, **account.counts}
    redis, kafka = demo_verdict.arrived(account)
    return {
        "verdict": "ok" if verdict.ok else "failed",
        **{term: flow[term] for term in _TERMS},
        "gaps": verdict.gaps,
        "candles": verdict.candles,
        "seconds": account.seconds,
        "rows": verdict.rows,
        "redis_messages": redis,
        "kafka_messages": kafka,
        "redis_keys": account.fanout.cached_keys,
        "failed_checks": [f"{check.name}: {check.found}" for check in verdict.checks if not check.holds],
    }
