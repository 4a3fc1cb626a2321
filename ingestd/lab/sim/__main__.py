"""`python -m ingestd.lab.sim replay CAPTURE …`, `… synthetic …` and `… volley …`: runs the simulator.

Prints one JSON line when ready (`url_map`, `control`, `exchange`, `symbols`); exits with 0 on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from ingestd.errors import IngestdError
from ingestd.lab.sim.faults import parse_schedule
from ingestd.lab.sim.replay import MAX_SPEED, ReplayVenue, replay_venue
from ingestd.lab.sim.synthetic.venue import SyntheticVenue, synthetic_venue
from ingestd.lab.sim.volley import Bursts, Pace, Steady, VolleyVenue, burst_offsets, volley_venue

AnyVenue = ReplayVenue | SyntheticVenue | VolleyVenue

FAILED = 1
WRONG_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        venue: AnyVenue = arguments.make(arguments)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(venue))
    except (IngestdError, OSError) as error:
        print(f"ingestd.lab.sim: {error}", file=sys.stderr)
        return WRONG_USAGE if isinstance(error, (IngestdError, FileNotFoundError)) else FAILED
    return 0


def _parser() -> argparse.ArgumentParser:
    about = "A local exchange that speaks like one."
    parser = argparse.ArgumentParser(prog="python -m ingestd.lab.sim", description=about)
    modes = parser.add_subparsers(dest="mode", required=True)
    replay = modes.add_parser("replay", help="replay a capture of recorded public traffic")
    replay.add_argument("capture", type=Path)
    replay.add_argument("--speed", type=_speed, default=1.0, help="times the recorded pace, or max (default 1)")
    replay.add_argument("--shift-to-now", action="store_true", help="move the exchange's times by one constant")
    replay.add_argument("--quiet-s", type=float, default=1.0, help="start so long after the last subscribe message")
    synthetic = modes.add_parser("synthetic", help="an endless generated market in Binance's wire format")
    synthetic.add_argument("--symbols", type=int, default=5, help="spot symbols (default 5)")
    synthetic.add_argument("--futures-symbols", type=int, default=0, help="USDⓈ-M symbols (default 0)")
    synthetic.add_argument("--rate", type=float, default=1000.0, help="trades and bookTickers a second, in all")
    synthetic.add_argument("--seed", type=int, default=1)
    volley = modes.add_parser("volley", help="made-up trades and best prices, at the highest rates; for measurements")
    volley.add_argument("--symbols", type=int, default=20, help="spot symbols (default 20)")
    volley.add_argument("--rate", type=_speed, default=1000.0, help="frames a second, or max, which needs --count")
    volley.add_argument("--count", type=int, help="frames in all (default: until stopped)")
    volley.add_argument("--bursts", type=float, metavar="SECONDS", help="as a stretch of bursts of that mean rate")
    volley.add_argument("--speed", type=_speed, default=1.0, help="times the pace of the bursts (default 1)")
    for mode, make in ((replay, _replay), (synthetic, _synthetic), (volley, _volley)):
        mode.set_defaults(make=make)
        mode.add_argument("--port", type=int, default=0, help="0: any free one")
        mode.add_argument("--hold", action="store_true", help="start only on POST /_sim/start")
    for mode in (replay, synthetic):
        mode.add_argument("--fault", action="append", default=[], help="KIND@SECONDS[:AMOUNT], may be repeated")
    return parser


def _speed(text: str) -> float:
    speed = MAX_SPEED if text == "max" else float(text)
    if speed <= 0:
        raise argparse.ArgumentTypeError("must be positive")
    return speed


def _replay(arguments: argparse.Namespace) -> ReplayVenue:
    return replay_venue(
        arguments.capture,
        speed=arguments.speed,
        shift_to_now=arguments.shift_to_now,
        quiet_s=None if arguments.hold else arguments.quiet_s,
        port=arguments.port,
        schedule=[parse_schedule(text) for text in arguments.fault],
    )


def _synthetic(arguments: argparse.Namespace) -> SyntheticVenue:
    return synthetic_venue(
        symbols=arguments.symbols,
        futures_symbols=arguments.futures_symbols,
        rate=arguments.rate,
        seed=arguments.seed,
        quiet_s=None if arguments.hold else 0.0,
        port=arguments.port,
        schedule=[parse_schedule(text) for text in arguments.fault],
    )


def _volley(arguments: argparse.Namespace) -> VolleyVenue:
    count: int | None = arguments.count
    pace: Pace | None = None
    if arguments.bursts is not None:
        offsets = burst_offsets(arguments.bursts, arguments.rate)
        count = len(offsets)
        pace = Bursts(offsets, arguments.speed) if arguments.speed != MAX_SPEED else None
    elif arguments.rate != MAX_SPEED:
        pace = Steady(arguments.rate)
    elif count is None:
        raise IngestdError("--rate max needs --count: what is sent is made up beforehand")
    return volley_venue(
        symbols=arguments.symbols, pace=pace, count=count, quiet_s=None if arguments.hold else 0.0, port=arguments.port
    )


async def _serve(venue: AnyVenue) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with venue:
        venue.when_failed(stop.set)
        print(venue.ready_line(), flush=True)
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
