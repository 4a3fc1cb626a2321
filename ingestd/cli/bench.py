"""`ingestd bench`: measures the target figures on this machine, each beside its limit from the same run."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import orjson
import uvloop

from ingestd.cli.options import Integer, Number
from ingestd.cli.say import say, say_progress
from ingestd.cli.signals import run_to_its_end
from ingestd.config.models import LogConfig
from ingestd.config.secrets import redact
from ingestd.lab.bench import (
    bursts,
    decode_stages,
    growth,
    kafka_sink,
    latency,
    live_sink,
    outage,
    peer,
    plot,
    rig,
    socket_stages,
    store_stages,
    table,
    wire,
)
from ingestd.lab.bench.figures import Figures
from ingestd.lab.bench.rig import Plan, Server
from ingestd.ops import logs

_FROZEN_S = 30.0

Part = Callable[[Plan, Server, Figures], Awaitable[None]]


def _without_server(measure: Callable[[Plan, Figures], Awaitable[None]]) -> Part:
    return lambda plan, _server, figures: measure(plan, figures)


async def _frozen(plan: Plan, server: Server, figures: Figures) -> None:
    await live_sink.frozen(plan, server, figures, seconds_frozen=_FROZEN_S)


# In the order of running: parts that are compared run one after the other.
PARTS: dict[str, Part] = {
    "wire": wire.measure,
    "socket": _without_server(socket_stages.measure),
    "decode": _without_server(decode_stages.measure),
    "store": store_stages.measure,
    "redis": _without_server(live_sink.measure),
    "kafka": _without_server(kafka_sink.measure),
    "latency": latency.measure,
    "start": wire.measure_start,
    "outage": outage.measure,
    "growth": growth.measure,
    "bursts": bursts.measure,
    "batches": store_stages.batch_sizes,
    "fanout": live_sink.beside_the_database,
    "redis-frozen": _frozen,
}
_USUAL = tuple(name for name in PARTS if name not in ("batches", "fanout", "redis-frozen"))
_SHORT = Plan(quick=True, rows=150_000, rounds=1, seconds=3.0, outage_s=5.0)
_QUICK = ("wire", "socket", "store", "latency", "start", "outage")


@click.command()
@click.option("--quick", is_flag=True, help="Take about a minute: fewer rows, one round, a short outage.")
@click.option(
    "--part", "parts", type=click.Choice(list(PARTS)), multiple=True, help="Run only this part; may be repeated."
)
@click.option("--rows", type=Integer(min=1000), help="Trades per round.  [default: 600,000]")
@click.option("--rounds", type=Integer(min=1), help="Rounds, of which the median counts.  [default: 3]")
@click.option("--seconds", type=Number(min=1), help="Seconds per measurement of latency or cost.  [default: 15]")
@click.option("--outage-s", type=Number(min=1), help="Length of the simulated database outage.  [default: 600]")
@click.option("--dsn", help="Use this server; temporary databases are created on it and dropped.")
@click.option("--kafka", help="Use the broker at this host:port instead of starting one.")
@click.option("--captures", type=click.Path(file_okay=False, path_type=Path), help="A folder of recorded traffic.")
@click.option(
    "--peer", "peer_name", type=click.Choice(["cryptofeed"]), help="Also measure this program on the same trades."
)
@click.option("--peer-python", type=click.Path(path_type=Path), help="An interpreter that has the peer installed.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path, dir_okay=False), help="Draw to this PNG file.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all results to this file."
)
def bench(
    quick: bool,
    parts: tuple[str, ...],
    dsn: str | None,
    captures: Path | None,
    peer_name: str | None,
    peer_python: Path | None,
    plot_file: Path | None,
    markdown: bool,
    json_file: Path | None,
    **given: Any,  # the options that are fields of Plan; None where they are left out
) -> None:
    """Measure this machine and compare the figures with their targets.

    Exits with 0 whatever the figures are, and with 1 if a measurement failed.
    """
    logs.configure(LogConfig(level="error"))
    plan = replace(
        _SHORT if quick else Plan(), say=say_progress, **{name: value for name, value in given.items() if value}
    )
    if captures is not None and captures.is_dir():
        plan = replace(plan, captures=captures)
    chosen = list(parts or (_QUICK if quick else _USUAL))
    if plot_file is not None:
        plot.require()
        chosen = list(dict.fromkeys([*chosen, "store", "batches", "growth"]))
    load_before = os.getloadavg()[0]
    figures, server = run_to_its_end(_measure(plan, dsn, chosen, peer_name is not None, peer_python), uvloop.run)
    machine = _machine(server, load_before)
    if json_file is not None:
        document = table.as_document(machine, figures)
        json_file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    say(table.as_markdown(machine, figures) if markdown else table.as_text(machine, figures), nl=False)
    if plot_file is not None:
        plot.draw(figures, plot_file)


async def _measure(
    plan: Plan, dsn: str | None, chosen: list[str], with_peer: bool, peer_python: Path | None
) -> tuple[Figures, str]:
    figures = Figures()
    async with rig.server(dsn, plan.say) as server:
        for name, measure in PARTS.items():
            if name in chosen:
                await measure(plan, server, figures)
        if with_peer:
            await peer.measure(plan, server, figures, peer_python)
        return figures, server.version


def _machine(server: str, load_before: float) -> table.Machine:
    return table.Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        python=platform.python_version(),
        server=server,
        load_before=load_before,
        load_after=os.getloadavg()[0],
        command=redact(" ".join(["ingestd", *sys.argv[1:]])) if sys.argv[1:2] == ["bench"] else "ingestd bench",
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
