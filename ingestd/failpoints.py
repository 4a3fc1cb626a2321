"""Failpoints: named places where a test makes the process die, stop, fail or sleep, in windows too short for a random
kill.

    INGESTD_TEST_FAILPOINTS=1 INGESTD_FAILPOINT=database.commit.after:3:kill,journal.rotate:1:sleep(0.5) ingestd run …

`name:nth:action` acts the nth time the place is passed, `nth+` every time from the nth on. When failpoints are off,
passing a place costs one lookup in an empty dictionary, and places lie on the path of a batch, never of a record.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from ingestd.errors import ConfigError, Problem

VARIABLE = "INGESTD_FAILPOINT"
TEST_FLAG = "INGESTD_TEST_FAILPOINTS"

# Every place, with the state of the process when it is passed.
PLACES: dict[str, str] = {
    "intake.seal": "a batch is taken from the open records, nothing is written",
    "journal.append.before": "the writer's thread is about to write a batch",
    "journal.append.after": "the batch is durable, the intake does not know it yet",
    "journal.create": "a new file exists, its name is not durable",
    "journal.rotate": "the new file is durable, the one before has not ended",
    "journal.finish": "a file's totals are stored, its log is not folded in",
    "journal.unlink.before": "every sink has passed a file, it is still there",
    "journal.unlink.between": "the file is gone, its log is not",
    "database.position": "the position is moved in the open transaction, no row is written",
    "database.copy.after": "the rows of a table are written, nothing is committed",
    "database.merge": "the staging table is filled, nothing is merged",
    "database.commit.before": "everything is written, COMMIT is not sent",
    "database.commit.after": "the transaction is committed, the sink was not told",
    "sink.acknowledge": "the sink knows that it is stored, the journal does not",
    "kafka.send": "messages are about to be sent",
    "kafka.acknowledged": "a broker has acknowledged messages, the sink was not told",
    "kafka.cursor.part": "the new cursor file is written beside the old one",
    "kafka.cursor.replaced": "the new cursor file has its name, which is not durable",
    "redis.write": "packed commands are about to be handed to the socket",
    "migrate.applied": "a migration has run, its row is not written",
    "migrate.recorded": "a migration is recorded, nothing is committed",
    "migrate.step": "a step of a long migration is done and recorded, the next has not begun",
    "migrate.backfilled": "a batch of a backfill is committed, the next has not begun",
    "migrate.indexed": "an index of one table or chunk is made, the next is not",
    "migrate.renamed": "the symbols of one part are renamed and that is recorded, the next has not begun",
}

# No I/O happens at these places, so the action `raise` is not allowed there.
NEVER_FAIL = frozenset({"intake.seal", "journal.rotate", "sink.acknowledge", "redis.write"})

_SPECIFICATION = re.compile(
    r"(?P<name>[a-z.]+):(?P<nth>[1-9]\d{0,8})(?P<onward>\+?):"
    r"(?:(?P<action>kill|stop|raise)|sleep\((?P<seconds>\d+(?:\.\d+)?)\))"
)


@dataclass(slots=True)
class _Armed:
    """The action at one place; the first `left` passes do nothing."""

    left: int
    onward: bool
    action: str
    seconds: float


_armed: dict[str, _Armed] = {}


def passing(place: str) -> None:
    """Pass a place. If a test armed it, kill or stop the process, sleep, or raise OSError."""
    if _armed and (armed := _armed.get(place)) is not None:
        _fire(place, armed)


def arm(environ: Mapping[str, str]) -> list[str]:
    """Arm the places named in the environment and return them. Raises ConfigError without the test flag or on a
    mistake."""
    _armed.clear()
    text = environ.get(VARIABLE, "")
    if not text:
        return []
    if environ.get(TEST_FLAG) != "1":
        raise _mistake(f"would break this process on purpose, and {TEST_FLAG}=1 is not set", text)
    for part in text.split(","):
        name, armed = _parsed(part.strip())
        _armed[name] = armed
    return list(_armed)


def _parsed(text: str) -> tuple[str, _Armed]:
    match = _SPECIFICATION.fullmatch(text)
    if match is None:
        raise _mistake("is not name:nth:action with an action kill, stop, raise or sleep(seconds)", text)
    name, action = match["name"], match["action"] or "sleep"
    if name not in PLACES:
        near = get_close_matches(name, PLACES, n=1)
        raise _mistake("there is no such place", text, f"did you mean {near[0]}?" if near else None)
    if action == "raise" and name in NEVER_FAIL:
        raise _mistake("nothing can fail at this place", text)
    return name, _Armed(int(match["nth"]) - 1, bool(match["onward"]), action, float(match["seconds"] or 0))


def _mistake(message: str, value: str, hint: str | None = None) -> ConfigError:
    return ConfigError([Problem(VARIABLE, message, value, hint)])


def _fire(place: str, armed: _Armed) -> None:
    if armed.left > 0:
        armed.left -= 1
        return
    if not armed.onward:
        del _armed[place]
    os.write(2, f"failpoint {place}: {armed.action}\n".encode())
    if armed.action == "sleep":
        time.sleep(armed.seconds)
    elif armed.action == "raise":
        raise OSError(errno.EIO, f"failpoint {place}")
    else:
        os.kill(os.getpid(), signal.SIGKILL if armed.action == "kill" else signal.SIGSTOP)
