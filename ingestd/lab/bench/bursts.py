"""Replays bursts at their own pace, ten times as fast, and as fast as sockets allow, and checks that nothing is lost.

The input is recorded public traffic, if a folder is given, and a generated minute of bursts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingestd.config.models import RetentionConfig
from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figures
from ingestd.lab.bench.rig import Plan, Sections, Server
from ingestd.lab.demo import processes
from ingestd.lab.demo.processes import Daemon, Venue, settled

SPEEDS = ("1", "10", "max")
_BURSTS_S = 60.0
_QUICK_BURSTS_S = 5.0
_PER_S = 2_000
_NO_PROGRESS_S = 8.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """Input to replay. `origin` is the column with the time an event was due or, in old traffic, received."""

    name: str
    arguments: Sequence[object]
    channels: Sequence[str]
    sections: Sections
    origin: str


async def measure(plan: Plan, server: Server, figures: Figures) -> None:
    """Replay each input at each speed, and compare with the simulator's ledger."""
    lost = 0
    for stretch in _stretches(plan):
        for speed in SPEEDS:
            lost += await _played(plan, server, figures, stretch, speed)
    figures.add("bursts.lost", "bursts: trades sent and not stored, all in all", lost, "trades")


def _stretches(plan: Plan) -> list[Stretch]:
    seconds = _QUICK_BURSTS_S if plan.quick else _BURSTS_S
    made_up = ("volley", "--symbols", plan.symbols, "--rate", _PER_S, "--bursts", seconds)
    stretches = [Stretch(f"made-up {seconds:g} s", made_up, ("trades",), {}, "time")]
    # A recording is old: none of its records may be refused for age.
    keep = {"retention": dict.fromkeys(RetentionConfig.model_fields, 0)}
    captures = sorted(plan.captures.glob("*.ndjson.gz")) if plan.captures is not None else []
    for file in [] if plan.quick else captures:
        name = file.name.removesuffix(".ndjson.gz")
        stretches.append(Stretch(name, ("replay", file), ("trades", "ticks", "order_book"), keep, "received_at"))
    return stretches


async def _played(plan: Plan, server: Server, figures: Figures, stretch: Stretch, speed: str) -> int:
    """Return the number of lost trades."""
    plan.say(f"bursts: {stretch.name} at {speed}×")
    # Frames generated beforehand do not carry the time they were due.
    origin = "received_at" if speed == "max" else stretch.origin
    async with server.database(stretch.sections) as dsn:
        sections = {"database": {"dsn": dsn}, **stretch.sections}
        arguments = (*stretch.arguments, "--speed", speed, "--hold")
        async with (
            processes.venue(*arguments) as venue,
            rig.daemon([venue.feed("auto", stretch.channels)], sections) as daemon,
        ):
            # Subscriptions that are missing in a capture are acknowledged and stay silent.
            await venue.until(lambda ledger: ledger["subscriptions"])
            await settled(lambda: _subscriptions(venue), 1.0)
            await venue.start()
            ledger = await venue.until(lambda found: found["finished"], within_s=300.0)
            sent = int(ledger["distinct_trades"])
            stored = await settled(lambda: _stored_trades(daemon), _NO_PROGRESS_S, sent)
            gaps = sum((await daemon.counted("ingestd_gaps_total")).values())
        ages: list[float] = []
        if server.stamps_commits and stored:
            async with processes.connected(dsn) as database:
                ages = await rig.commit_ages_ms(database, 0, origin)
    note = f"{sent:,} trades sent, {stored:,} stored" + (f", {gaps} gaps" if gaps else "")
    since = "its time" if origin == "time" else "its arrival"
    if ages:
        note += f"; from {since}: p50 {ages[0]:,.0f} ms, worst {ages[2]:,.0f} ms"
    what = f"bursts, {stretch.name} at {speed}×: committed, p99"
    key = f"bursts.{stretch.name.replace(' ', '_')}_{speed}"
    figures.add(key, what, ages[1] if ages else float("nan"), "ms", note=note)
    return sent - stored


async def _subscriptions(venue: Venue) -> int:
    return int((await venue.ledger())["subscriptions"])


async def _stored_trades(daemon: Daemon) -> int:
    return (await daemon.counted("ingestd_records_stored_total", "channel")).get("trades", 0)
