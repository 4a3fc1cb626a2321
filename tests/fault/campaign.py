"""Kill after kill at random moments, and after every round the judge. The seed decides everything but the timing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from tests.fault.oracle import Verdict
from tests.fault.processes import DATABASE
from tests.fault.rig import DaemonEnded, Rig

SHARES = {"process": 0.6, "backend": 0.2, "postmaster": 0.1, "stop": 0.1}
ROUND_KILLS = 50  # then everything is drained, compared, and forgotten

# Where a process dies, and within how many passings: what every start passes, and what a rotation passes.
FAILPOINTS = {
    "intake.seal": 40,
    "journal.append.before": 40,
    "journal.append.after": 40,
    "journal.create": 4,
    "journal.rotate": 3,
    "journal.unlink.before": 3,
    "journal.unlink.between": 6,
    "database.position": 15,
    "database.copy.after": 25,
    "database.merge": 1,
    "database.commit.before": 15,
    "database.commit.after": 15,
    "sink.acknowledge": 15,
}
_FAILPOINT_SHARE = 0.5
_PATIENCE_S = 1.5  # for an armed failpoint to be reached


@dataclass
class Tally:
    """What a campaign did and what came of it."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)  # failpoints
    verdicts: list[Verdict] = field(default_factory=list)
    restart_s: list[float] = field(default_factory=list)  # from the start of a process to its first journaled event
    commit_s: list[float] = field(default_factory=list)  # from the server's readiness to the first commit
    took_s: float = 0.0
    rate: float = 0.0  # events a second while a daemon was connected

    @property
    def complaints(self) -> list[str]:
        return [complaint for verdict in self.verdicts for complaint in verdict.complaints]

    def __str__(self) -> str:
        def total(name: str) -> int:
            return sum(getattr(verdict, name) for verdict in self.verdicts)

        process_kills = self.kills["process"] or 1
        return (
            f"seed {self.seed}: {self.kills.total()} kills in {self.took_s:.0f} s ({_listed(self.kills)}; "
            f"{self.reached.total()} of them at {len(self.reached)} failpoints), {self.rate:.0f} events/s; "
            f"journaled {total('journaled')}, refused {total('refused')}, unknown {total('unknown')} "
            f"({total('unknown') / process_kills:.0f} a kill, {total('unknown_stored')} of them stored); "
            f"complaints {len(self.complaints)}; start to first journaled event {_spread(self.restart_s)}, "
            f"server ready to first commit {_spread(self.commit_s)}"
        )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "not measured"
    ordered = sorted(seconds)
    return f"median {ordered[len(ordered) // 2]:.2f} s, longest {ordered[-1]:.2f} s"


async def campaign(rig: Rig, kills: int, seed: int) -> Tally:
    """So many kills, in the shares above."""
    run = _Campaign(rig, random.Random(seed), Tally(seed))
    started_s = time.monotonic()
    plan = [kind for kind, share in SHARES.items() for _ in range(round(share * kills))]
    run.draw.shuffle(plan)
    for first in range(0, len(plan), ROUND_KILLS):
        await run.round(plan[first : first + ROUND_KILLS], last=first + ROUND_KILLS >= len(plan))
    run.tally.took_s = time.monotonic() - started_s
    state = rig.emitter.state
    run.tally.rate = state["sent"] / max(0.001, state["connected_s"])
    return run.tally


class _Campaign:
    def __init__(self, rig: Rig, draw: random.Random, tally: Tally) -> None:
        self.rig = rig
        self.draw = draw
        self.tally = tally
        self.armed: str | None = None
        self.actions = {
            "process": self._kill_process,
            "backend": self._kill_backend,
            "postmaster": self._kill_postmaster,
            "stop": self._stop_and_continue,
        }

    async def round(self, plan: list[str], *, last: bool) -> None:
        """Some kills; then the venue falls silent and the tables are judged."""
        self.rig.emitter.order(paused=False)
        await self._begin(armed=False)
        for kind in plan:
            await self._progress()
            await asyncio.sleep(self.draw.uniform(0.0, 0.4))
            await self.actions[kind]()
        await self._progress()
        if self.armed is not None:  # it must not die while it is judged
            await self._kill_process(armed_next=False)
        verdict = await self.rig.settle(last=last)
        self.tally.verdicts.append(verdict)

    async def _begin(self, *, armed: bool) -> None:
        """A new life, perhaps with its end already decided."""
        self.armed = None
        if armed and self.draw.random() < _FAILPOINT_SHARE:
            place = self.draw.choice(list(FAILPOINTS))
            self.armed = place
            await self.rig.start(f"{place}:{self.draw.randint(1, FAILPOINTS[place])}:kill")
        else:
            await self.rig.start()

    async def _progress(self) -> None:
        """Until events are journaled; a daemon that reached its failpoint is replaced."""
        started_s = time.monotonic()
        fresh = self.rig.emitter.state.get("clients", 0) == 0
        while True:
            try:
                await self.rig.journaled(30)
            except DaemonEnded as ended:
                await self._died(ended.code)
                await self._begin(armed=False)
            else:
                break
        if fresh:
            self.tally.restart_s.append(time.monotonic() - started_s)

    async def _died(self, code: int) -> None:
        """At its failpoint, as decided; any other end is a finding."""
        if self.armed is None or code != -signal.SIGKILL:
            raise DaemonEnded(code, self.rig.tail())
        self.tally.kills["process"] += 1
        self.tally.reached[self.armed] += 1
        self.armed = None

    async def _kill_process(self, *, armed_next: bool = True) -> None:
        daemon = self.rig.daemon
        assert daemon is not None
        if self.armed is not None:
            with suppress(TimeoutError):
                await self._died(await daemon.end(_PATIENCE_S))
        if not daemon.ended.done():
            daemon.signal(signal.SIGKILL)
            await daemon.end()
            self.tally.kills["process"] += 1
        await self._begin(armed=armed_next)

    async def _kill_backend(self) -> None:
        """Half of them by the server's own means, half by SIGKILL, which makes the server restart all of them."""
        backends = self.rig.server.backends(DATABASE)
        for pid in backends:
            with suppress(ProcessLookupError):
                os.kill(pid, self.draw.choice((signal.SIGTERM, signal.SIGKILL)))
        self.tally.kills["backend"] += bool(backends)

    async def _kill_postmaster(self) -> None:
        server = self.rig.server
        server.kill(self.draw.choice((signal.SIGKILL, signal.SIGQUIT)))
        self.tally.kills["postmaster"] += 1
        await asyncio.sleep(self.draw.uniform(0.0, 0.5))
        await asyncio.to_thread(server.restart)
        self.rig.proxy.target = server.port
        started_s = time.monotonic()
        daemon = self.rig.daemon
        if daemon is not None and not daemon.ended.done() and self.armed is None:
            await self.rig.committed()
            self.tally.commit_s.append(time.monotonic() - started_s)

    async def _stop_and_continue(self) -> None:
        """The daemon, its backends, or the whole server, for up to a second; the limit of a flush is two."""
        daemon = self.rig.daemon
        assert daemon is not None
        who = self.draw.choice(("daemon", "backends", "server"))
        pids = {
            "daemon": [daemon.pid] if not daemon.ended.done() else [],
            "backends": self.rig.server.backends(DATABASE),
            "server": self.rig.server.pids(),
        }[who]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.draw.choice((0.1, 0.5, 1.0, 2.5)))
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self.tally.kills["stop"] += 1
