"""Log lines of what runs inside a test, with plain tracebacks.

structlog's own choice, where nothing is configured, draws each traceback with the locals of every frame: a test that
fails a hundred connections drew for half of its time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from ingestd.config import secrets

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(autouse=True)
def _no_secret_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test's configuration called a password is a word of the next one's messages."""
    monkeypatch.setattr(secrets, "hidden", {})


@pytest.fixture(autouse=True)
def _logs_of_this_test_alone() -> Iterator[None]:
    """A command that a test runs here sends the process's log to the stream of that test, which is then closed."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configured)
