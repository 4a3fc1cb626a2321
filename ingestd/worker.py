"""A worker thread that runs jobs in order and never keeps the process from exiting.

I/O on a hanging disk cannot be interrupted, and at exit the interpreter would wait for an executor's threads for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from ingestd.errors import WorkerClosed

T = TypeVar("T")


class Worker:
    """One thread, which starts with the first job and ends with `close` or with the process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run a job after all jobs submitted before. Raises WorkerClosed after `close`."""
        if self._closed:
            raise WorkerClosed(f"the {self.name} has been closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._queue.put((future, work))
        return future

    def close(self, timeout_s: float) -> bool:
        """Finish the submitted jobs. False: the thread did not end in time and was abandoned."""
        self._closed = True
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            _carry_out(*item)
            del item  # so that the waiting thread keeps no objects alive


def _carry_out(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
        future.set_exception(error)
    else:
        future.set_result(result)
