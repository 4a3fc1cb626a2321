"""The daemon itself: stopped while the database is away, out of memory, blocked, flooded, with a clock that jumps.

INGESTD_FAULT_OUTAGE_S: how long the flood lasts, up to the 30 s of the matrix.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fault.processes import rss_bytes
from tests.fault.rig import fault_rig
from tests.support.time_limits import within

OUTAGE_S = float(os.environ.get("INGESTD_FAULT_OUTAGE_S", "5"))
MIB = 2**20

Measured = Callable[[str, object], None]
Said = tuple[float, str]


async def test_stopped_while_the_database_is_away(tmp_path: Path, record_property: Measured) -> None:
    async with fault_rig(tmp_path) as rig:
        await rig.start()
        await rig.journaled(500)
        rig.server.kill(signal.SIGQUIT)
        await rig.journaled(500)
        started_s = time.monotonic()
        counts = await rig.stop()
        took_s = time.monotonic() - started_s
        left = sum(counts["in_journal"].values())
        await asyncio.to_thread(rig.server.restart)
        rig.proxy.target = rig.server.port
        verdict = await rig.settle()
    record_property("measured", f"exit 0 after {took_s:.2f} s, {left} records left in the journal, all stored later")
    assert left >= 500
    assert within(took_s, 5)
    assert verdict.complaints == ()


async def test_stopped_under_load(tmp_path: Path, record_property: Measured) -> None:
    async with fault_rig(tmp_path, rate=5000) as rig:
        await rig.start()
        await rig.journaled(5000)
        started_s = time.monotonic()
        counts = await rig.stop()
        took_s = time.monotonic() - started_s
        verdict = await rig.settle()
    record_property("measured", f"at 5000/s: exit 0 after {took_s:.2f} s, nothing left in the journal")
    assert sum(counts["in_journal"].values()) == 0
    assert within(took_s, 10)
    assert verdict.complaints == ()


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group for memory."""
    folder = Path("/sys/fs/cgroup/memory") / f"ingestd-fault-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group for memory can be made here: {error.strerror}")
    yield folder
    with contextlib.suppress(OSError):
        folder.rmdir()


async def test_killed_for_its_memory(tmp_path: Path, memory_group: Path, record_property: Measured) -> None:
    async with fault_rig(tmp_path, rate=10_000) as rig:
        rig.configure(journal={"memory_bytes": "64MiB"})
        for _ in range(3):
            daemon = await rig.start()
            await rig.journaled(500)
            rig.server.kill(signal.SIGQUIT)  # so that it has something to keep in memory
            (memory_group / "cgroup.procs").write_text(str(daemon.pid))
            (memory_group / "memory.limit_in_bytes").write_text(str(MIB))
            code = await daemon.end(20)
            (memory_group / "memory.limit_in_bytes").write_text("-1")
            assert code == -signal.SIGKILL
            await asyncio.to_thread(rig.server.restart)
            rig.proxy.target = rig.server.port
        started_s = time.monotonic()
        await rig.start()
        await rig.journaled(1)
        back_s = time.monotonic() - started_s
        verdict = await rig.settle()
    record_property("measured", f"killed 3 times: 0 lost, 0 doubled, journaling again after {back_s:.2f} s")
    assert verdict.complaints == ()
    assert within(back_s, 5)


@pytest.mark.campaign
async def test_the_loop_is_blocked_for_two_seconds(tmp_path: Path, record_property: Measured) -> None:
    async with fault_rig(tmp_path) as rig:
        daemon = await rig.start("database.commit.before:5:sleep(2)")
        started_s = time.monotonic()
        await rig.journaled(8000)
        took_s = time.monotonic() - started_s
        live, ready = await daemon.get("/livez"), await daemon.get("/readyz")
        verdict = await rig.settle()
    record_property("measured", "live and ready afterwards, what the venue sent meanwhile was read from the socket")
    assert "failpoint database.commit.before: sleep" in (tmp_path / "life-1.log").read_text()
    assert took_s > 2
    assert (live[0], ready[0]) == (200, 200)
    assert verdict.unknown == 0
    assert verdict.complaints == ()


async def test_a_blocked_loop_is_silent_to_the_watchdog(tmp_path: Path, record_property: Measured) -> None:
    """systemd kills a service that is silent for longer than WatchdogSec; a blocked loop must be."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.setblocking(False)
        async with fault_rig(tmp_path) as rig:
            daemon = await rig.start("database.commit.before:20:sleep(3)", NOTIFY_SOCKET=path, WATCHDOG_USEC="1000000")
            heard = await said(notify, lambda heard: len(pings(heard)) > 6 and max(silences(heard)) > 2.5)
            daemon.signal(signal.SIGKILL)
            await daemon.end()
            verdict = await rig.settle()
    silent = sorted(silences(heard))
    record_property("measured", f"silent for {silent[-1]:.1f} s of 3 s blocked, else every {silent[0]:.1f} s")
    assert any("READY=1" in text for _, text in heard)
    assert silent[-1] > 2.5
    assert silent[len(silent) // 2] < 0.7
    assert verdict.complaints == ()


async def said(notify: socket.socket, enough: Callable[[list[Said]], bool]) -> list[Said]:
    """What a service tells systemd, and when, until it is enough."""
    heard: list[Said] = []
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        while not enough(heard):
            data = await loop.sock_recv(notify, 4096)
            heard.append((time.monotonic(), data.decode()))
    return heard


def pings(heard: list[Said]) -> list[float]:
    """When the watchdog was fed."""
    return [at for at, text in heard if "WATCHDOG=1" in text]


def silences(heard: list[Said]) -> list[float]:
    """How long it was not, each time, in seconds."""
    return [later - earlier for earlier, later in itertools.pairwise(pings(heard))]


@pytest.mark.campaign
async def test_a_flood_of_twenty_times_the_usual(tmp_path: Path, record_property: Measured) -> None:
    """What cannot be taken in is not read: the venue's own buffers fill, the memory here does not."""
    usual, seconds = 2000, min(30.0, OUTAGE_S)
    async with fault_rig(tmp_path, rate=usual) as rig:
        rig.configure(journal={"file_bytes": "64MiB", "memory_bytes": "16MiB"}, database={"flush_ms": 250})
        daemon = await rig.start()
        await rig.journaled(2 * usual)
        before = rss_bytes(daemon.pid)
        sent = rig.emitter.state["sent"]
        rig.emitter.order(rate=20 * usual)
        await asyncio.sleep(seconds)
        rate = (rig.emitter.state["sent"] - sent) / seconds
        rig.emitter.order(rate=usual)
        grown = rss_bytes(daemon.pid) - before
        started_s = time.monotonic()
        while rig.emitter.state["sent"] - rig.emitter.state["answered"] > usual:
            await rig.emitter.next_state()
        caught_up_s = time.monotonic() - started_s
        verdict = await rig.settle()
        dropped = re.findall(r'"dropped":\{[^}]+\}', rig.log.read_text())
    record_property(
        "measured",
        f"{rate:.0f}/s for {seconds:.0f} s: {verdict.journaled} journaled, 0 lost, 0 dropped, "
        f"memory +{grown / MIB:.0f} MiB, caught up after {caught_up_s:.1f} s",
    )
    assert verdict.complaints == ()
    assert dropped == []
    assert grown <= 64 * MIB
    assert within(caught_up_s, 10)


@pytest.mark.parametrize("by_s", [pytest.param(3600.0, marks=pytest.mark.campaign), -3600.0])
async def test_the_wall_clock_jumps(by_s: float, tmp_path: Path, record_property: Measured) -> None:
    async with fault_rig(tmp_path) as rig:
        rig.configure(validation={"max_ahead_s": 7200})
        daemon = await rig.start(clock=[[1.0, by_s], [2.5, -by_s]])
        await rig.journaled(10_000)
        assert (await daemon.get("/livez"))[0] == 200
        failures = rig.tail(1000).count("sink_write_failed")
        verdict = await rig.settle()
    record_property("measured", f"{by_s / 3600:+.0f} h and back: 0 lost, 0 doubled, {failures} failed writes")
    assert verdict.complaints == ()
    assert verdict.unknown == 0
    assert failures == 0


async def test_a_clock_that_is_behind_puts_everything_aside_and_loses_nothing(
    tmp_path: Path, record_property: Measured
) -> None:
    """The price of refusing times far ahead: with a clock an hour slow, all of them are. They are kept aside."""
    async with fault_rig(tmp_path) as rig:
        await rig.start(clock=[[1.0, -3600.0], [2.0, 3600.0]])
        await rig.journaled(6000)
        verdict = await rig.settle()
    refused = verdict.refused
    record_property("measured", f"-1 h for 1 s: {refused} records in rejected_records (too_far_ahead), 0 lost")
    assert verdict.unknown == 0
    assert refused > 1000
    # The only complaint is that they had no flaw of their own.
    assert [re.sub(r"\d+ (refused without a flaw).*", r"\1", text) for text in verdict.complaints] == [
        "refused without a flaw"
    ]
