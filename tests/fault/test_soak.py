"""Hours of faults: `make soak HOURS=n`. Not a part of the other runs.

Half of the time one daemon lives through all that need not kill it, and must not grow; the other half is kills, two
hundred to a round, judged against the ledger.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fault.campaign import campaign
from tests.fault.processes import DATABASE
from tests.fault.rig import Rig, fault_rig

HOURS = float(os.environ.get("INGESTD_SOAK_HOURS", "0"))
SEED = int(os.environ.get("INGESTD_FAULT_SEED", random.randrange(10**9)))

_FAULT_EVERY_S = 60.0
_SAMPLE_EVERY_S = 10.0
_MIB = 2**20
_MOST_SLOPE_BYTES_PER_HOUR = _MIB
_NOISE_BYTES = 8 * _MIB  # what memory goes up and down by itself

pytestmark = [
    pytest.mark.skipif(not HOURS, reason="only by make soak HOURS=n"),
    pytest.mark.timeout(HOURS * 3600 * 2 + 600),
]


async def test_kills_for_hours(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    end_s = time.monotonic() + HOURS / 2 * 3600
    print(f"\nseed {SEED}")
    draw, round_number, kills = random.Random(SEED), 0, 0
    while time.monotonic() < end_s:
        round_number += 1
        folder = tmp_path / str(round_number)
        folder.mkdir()
        async with fault_rig(folder) as rig:
            tally = await campaign(rig, 200, draw.randrange(10**9))
        kills += tally.kills.total()
        print(f"round {round_number}: {tally}", flush=True)
        assert tally.complaints == [], f"seed {SEED}, round {round_number}"
    record_property("measured", f"{kills} kills in {HOURS / 2:g} h, seed {SEED}")


async def test_one_life_with_a_fault_a_minute(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    print(f"\nseed {SEED}")
    draw = random.Random(SEED)
    async with fault_rig(tmp_path) as rig:
        daemon = await rig.start()
        await rig.journaled(5000)
        end_s = time.monotonic() + HOURS / 2 * 3600
        faults, samples = 0, list[tuple[float, float, float, float]]()
        while time.monotonic() < end_s:
            await _one_fault(rig, draw)
            faults += 1
            quiet_until_s = time.monotonic() + min(_FAULT_EVERY_S, HOURS * 3600 / 40)
            await rig.committed()
            while time.monotonic() < quiet_until_s:
                await asyncio.sleep(min(_SAMPLE_EVERY_S, HOURS * 3600 / 400))
                names = "process_resident_memory_bytes", "process_open_fds", "ingestd_loop_tasks"
                memory, files, tasks = [await daemon.metric(name) for name in names]
                samples.append((time.monotonic(), memory, files, tasks))
        verdict = await rig.settle()
    assert verdict.complaints == ()
    # The first quarter is the start: caches fill, and the connections are made.
    settled = samples[len(samples) // 4 :]
    times, memories = [sample[0] for sample in settled], [sample[1] for sample in settled]
    slope = statistics.linear_regression(times, memories).slope * 3600
    grown = slope * (times[-1] - times[0]) / 3600
    half = len(settled) // 2
    measured = (
        f"{faults} faults in {HOURS / 2:g} h, {verdict.journaled} journaled, 0 lost, 0 doubled; memory "
        f"{slope / _MIB:+.2f} MiB/h ({grown / _MIB:+.2f} MiB in all), files {_range(settled, 2)}, "
        f"tasks {_range(settled, 3)}"
    )
    print(measured)
    record_property("measured", f"{measured}, seed {SEED}")
    assert grown <= max(_NOISE_BYTES, _MOST_SLOPE_BYTES_PER_HOUR * (times[-1] - times[0]) / 3600), measured
    for column in (2, 3):
        first, second = ([sample[column] for sample in part] for part in (settled[:half], settled[half:]))
        assert statistics.median(second) <= statistics.median(first) + 1, measured


def _range(samples: list[tuple[float, float, float, float]], column: int) -> str:
    values = [sample[column] for sample in samples]
    return f"{min(values):.0f} to {max(values):.0f}"


async def _one_fault(rig: Rig, draw: random.Random) -> None:
    """Something that a daemon must live through."""
    match draw.choice(("backend", "postmaster", "reset", "blackhole", "frozen", "stopped")):
        case "backend":
            for pid in rig.server.backends(DATABASE):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        case "postmaster":
            rig.server.kill(signal.SIGKILL)
            await asyncio.to_thread(rig.server.restart)
            rig.proxy.target = rig.server.port
        case "reset":
            rig.proxy.reset()
        case "blackhole":
            rig.proxy.blackhole()
            await asyncio.sleep(4)
            rig.proxy.clear()
        case "frozen":
            with rig.server.frozen():
                await asyncio.sleep(4)
        case "stopped":
            assert rig.daemon is not None
            rig.daemon.signal(signal.SIGSTOP)
            await asyncio.sleep(2)
            rig.daemon.signal(signal.SIGCONT)
