"""One thread that does one piece of work after the other, and that never keeps the process from ending.

A disk that hangs cannot be interrupted. The threads of an executor would then be waited for at the exit, for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from ingestd.errors import JournalError

T = TypeVar("T")


class Worker:
    """Starts with the first piece of work; ends with `close`, or with the process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Do it after everything submitted before. Raises JournalError once closed."""
        if self._closed:
            raise JournalError(f"the {self.name} has been closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._queue.put((future, work))
        return future

    def close(self, timeout_s: float) -> bool:
        """Finish what was submitted. False: it has not ended in time, and is left to itself."""
        self._closed = True
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            _carry_out(*item)
            del item  # while it waits for the next, this thread keeps nothing alive


def _carry_out(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
        future.set_exception(error)
    else:
        future.set_result(result)
