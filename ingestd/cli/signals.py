"""What SIGTERM, SIGINT and SIGHUP do to a command, from its first line on.

The first stop signal asks for the orderly end. Only insistence cuts that short: a second SIGINT, or a SIGTERM that
comes a second or more after the first stop signal. What sends two within milliseconds (systemd and a wrapper, `timeout`
and a process group, a terminal and its shell) means one stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator
from typing import Any, TypeVar

from ingestd.clock import monotonic_s
from ingestd.errors import IngestdError

Result = TypeVar("Result")
Tell = Callable[[signal.Signals, bool], None]

STOPS = (signal.SIGTERM, signal.SIGINT)
_ONE_STOP_S = 1.0
_ONE_KEYPRESS_S = 0.1  # as often as a finger presses Ctrl-C twice, and a wrapper passes it on sooner


class Interrupted(IngestdError):
    """A signal ended a command before it was done."""


class StopSignals:
    """The stop signals that came, judged by when each arrived: a loop that was busy meanwhile sees both at once."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self._first_s = 0.0
        self._interrupted_s: float | None = None

    def forces(self, number: signal.Signals, at_s: float) -> bool:
        """Take one more. True: the orderly end has taken too long for whoever sent it."""
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
    """Takes signals from now until `close`, and hands them to the event loop once there is one."""

    def __init__(self, stops: Collection[signal.Signals], others: Collection[signal.Signals] = ()) -> None:
        self.stops = StopSignals()
        self._others = others
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tell: Tell | None = None
        self._early: list[tuple[signal.Signals, bool]] = []
        # Handlers of Python's own, not of the loop: they note the time also while the loop is busy, or not there yet.
        at_home = threading.current_thread() is threading.main_thread()  # only there may handlers be set
        self._before = {number: signal.signal(number, self._came) for number in (*stops, *others) if at_home}

    def hand_to(self, tell: Tell) -> None:
        """From now on `tell(signal, forced)` is called on the running loop; for those that came before, at once."""
        self._loop, self._tell = asyncio.get_running_loop(), tell
        while self._early:
            tell(*self._early.pop(0))

    def close(self) -> None:
        """Everything as it was before."""
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
    """These signals are ours inside the block."""
    listener = Listener(stops, others)
    try:
        yield listener
    finally:
        listener.close()


def run_to_its_end(
    work: Coroutine[Any, Any, Result], run: Callable[[Coroutine[Any, Any, Result]], Result] = asyncio.run
) -> Result:
    """Run a command's work; the first stop signal cancels it, so that all it opened is closed. Raises Interrupted then.

    A signal that forces cancels what it waits for while it closes.
    """
    # `nohup` says that a terminal which goes away is to end nothing.
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
