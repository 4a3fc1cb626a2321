"""The handling of SIGTERM, SIGINT and SIGHUP by a command, from its first line on.

The first stop signal begins an orderly stop. A second SIGINT, or a SIGTERM at least 1 s after the first stop signal,
forces the exit. Two signals within milliseconds (from systemd and a wrapper, `timeout` and a process group, a terminal
and its shell) mean one stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator
from typing import Any, TypeVar

from ingestd.clock import monotonic_s
from ingestd.errors import Interrupted

Result = TypeVar("Result")
Tell = Callable[[signal.Signals, bool], None]

STOPS = (signal.SIGTERM, signal.SIGINT)
_ONE_STOP_S = 1.0
_ONE_KEYPRESS_S = 0.1  # two presses of Ctrl-C are further apart; a wrapper passes one on faster


class StopSignals:
    """Judges stop signals by their times of arrival, because a busy event loop sees several at once."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self._first_s = 0.0
        self._interrupted_s: float | None = None

    def forces(self, number: signal.Signals, at_s: float) -> bool:
        """Take a signal that arrived at `at_s`, in monotonic seconds. True: it forces the exit."""
        interrupted_s = self._interrupted_s
        if number == signal.SIGINT and interrupted_s is None:
            self._interrupted_s = at_s
        if self.first is None:
            self.first, self._first_s = number, at_s
            return False
        if number == signal.SIGINT:
            return interrupted_s is not None and at_s - interrupted_s >= _ONE_KEYPRESS_S
        return at_s - self._first_s >= _ONE_STOP_S


class Listener:
    """Catches signals from now until `close`, and passes them to the event loop once it runs."""

    def __init__(self, stops: Collection[signal.Signals], others: Collection[signal.Signals] = ()) -> None:
        self.stops = StopSignals()
        self._others = others
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tell: Tell | None = None
        self._early: list[tuple[signal.Signals, bool]] = []
        # Python's own handlers, not the loop's, so that times are exact while the loop is busy or not yet running.
        at_home = threading.current_thread() is threading.main_thread()  # only the main thread may set handlers
        self._before = {number: signal.signal(number, self._came) for number in (*stops, *others) if at_home}

    def hand_to(self, tell: Tell) -> None:
        """Call `tell(signal, forced)` on the running loop for each signal, at once for those already received."""
        self._loop, self._tell = asyncio.get_running_loop(), tell
        while self._early:
            tell(*self._early.pop(0))

    def close(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _came(self, number: int, _frame: object) -> None:
        which = signal.Signals(number)
        forced = which not in self._others and self.stops.forces(which, monotonic_s())
        if self._loop is None or self._tell is None:
            self._early.append((which, forced))
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, which, forced)


@contextlib.contextmanager
def listening(stops: Collection[signal.Signals] = STOPS, others: Collection[signal.Signals] = ()) -> Iterator[Listener]:
    """Catch these signals inside the block."""
    listener = Listener(stops, others)
    try:
        yield listener
    finally:
        listener.close()


def run_to_its_end(
    work: Coroutine[Any, Any, Result], run: Callable[[Coroutine[Any, Any, Result]], Result] = asyncio.run
) -> Result:
    """Run a command's work. The first stop signal cancels it, so that it can clean up; then Interrupted is raised.

    A signal that forces the exit cancels the cleanup too.
    """
    # Under `nohup`, SIGHUP is ignored, so that closing the terminal does not end the command.
    hangup = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    with listening((*STOPS, *hangup)) as listener:
        try:
            return run(_cancelled(work, listener))
        except asyncio.CancelledError:
            name = listener.stops.first.name if listener.stops.first is not None else "a cancellation"
            raise Interrupted(f"ended by {name} before it was done") from None


async def _cancelled(work: Coroutine[Any, Any, Result], listener: Listener) -> Result:
    task = asyncio.create_task(work, name="command")

    def tell(number: signal.Signals, forced: bool) -> None:
        if forced or task.cancelling() == 0:
            task.cancel(number.name)

    listener.hand_to(tell)
    return await task
