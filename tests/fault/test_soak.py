"""Hours of kills, two hundred to a round: `make soak HOURS=n`. Not a part of the other runs."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.campaign import campaign
from tests.fault.rig import fault_rig

HOURS = float(os.environ.get("INGESTD_SOAK_HOURS", "0"))
SEED = int(os.environ.get("INGESTD_FAULT_SEED", random.randrange(10**9)))


@pytest.mark.skipif(not HOURS, reason="only by make soak HOURS=n")
@pytest.mark.timeout(HOURS * 3600 * 2 + 600)
async def test_kills_for_hours(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    end_s = time.monotonic() + HOURS * 3600
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
    record_property("measured", f"{kills} kills in {HOURS:g} h, seed {SEED}")
