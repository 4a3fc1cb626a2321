"""The kill campaign. Short here; `make fault` runs 200 kills, `make soak HOURS=n` runs for hours.

INGESTD_FAULT_KILLS and INGESTD_FAULT_SEED set the length and repeat a run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.campaign import campaign
from tests.fault.rig import fault_rig

KILLS = int(os.environ.get("INGESTD_FAULT_KILLS", "12"))
SEED = int(os.environ.get("INGESTD_FAULT_SEED", random.randrange(10**9)))


@pytest.mark.timeout(300 + 8 * KILLS)
@pytest.mark.parametrize(
    ("engine", "kills"),
    [pytest.param("postgres", KILLS, marks=pytest.mark.campaign), ("timescaledb", KILLS // 4)],
)
async def test_killed_again_and_again_nothing_journaled_is_lost_or_doubled(
    engine: str, kills: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with fault_rig(tmp_path, engine=engine) as rig:
        tally = await campaign(rig, kills, SEED)
    print(f"\n{engine}: {tally}")
    record_property("campaign", f"{engine}: {tally}")
    record_property("measured", f"{engine}: {tally.kills.total()} kills, 0 lost, 0 doubled")
    assert tally.complaints == [], f"seed {SEED}"
    assert tally.rate >= 2000
    assert sum(verdict.journaled for verdict in tally.verdicts) > 500 * kills * 0.2


BROKEN = {
    "drops a row": "1 lost: ",
    "stores a row twice": "1 stored twice: ",
    "changes the order": "1 visible before an earlier one of its symbol: ",
    "changes a value": "1 with another value than was sent: ",
    "miscounts": "are accounted for",
}
COMMITS = 8  # by then a row that is kept back has been overtaken, and stored


async def test_a_sink_that_breaks_the_promise_is_found_out(tmp_path: Path) -> None:
    async with fault_rig(tmp_path) as rig:
        found = {}
        for way in (*BROKEN, None):
            rig.emitter.order(paused=False)
            await rig.start(broken=way)
            await rig.journaled(1500)
            for _ in range(COMMITS):
                await rig.committed()
            found[way] = (await rig.settle(last=False)).complaints
    assert found.pop(None) == ()
    assert {way: len(complaints) for way, complaints in found.items()} == dict.fromkeys(BROKEN, 1), found
    for way, says in BROKEN.items():
        assert says in found[way][0]
