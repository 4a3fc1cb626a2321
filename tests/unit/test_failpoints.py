"""Failpoints: nothing without the test flag, exactly the n-th passing with it, and every place is really passed."""

from __future__ import annotations

import ast
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestd import failpoints
from ingestd.errors import ConfigError

PACKAGE = Path(__file__).parents[2] / "ingestd"
CURSOR_FILE = "kafka.cursor"


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm({})


def arm(text: str) -> list[str]:
    return failpoints.arm({failpoints.VARIABLE: text, failpoints.TEST_FLAG: "1"})


def outcomes(place: str, times: int) -> list[bool]:
    """Which of so many passings failed."""
    failed = []
    for _ in range(times):
        try:
            failpoints.passing(place)
        except OSError:
            failed.append(True)
        else:
            failed.append(False)
    return failed


def test_nothing_happens_unless_asked_for() -> None:
    assert failpoints.arm({}) == []
    assert outcomes("journal.append.before", 3) == [False] * 3


@pytest.mark.parametrize("flag", [{}, {failpoints.TEST_FLAG: ""}, {failpoints.TEST_FLAG: "0"}])
def test_without_the_test_flag_it_is_refused(flag: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=failpoints.TEST_FLAG):
        failpoints.arm({failpoints.VARIABLE: "journal.append.before:1:raise", **flag})
    assert outcomes("journal.append.before", 1) == [False]


def test_the_nth_passing_and_no_other() -> None:
    assert arm("journal.append.before:3:raise, journal.finish:1:raise") == ["journal.append.before", "journal.finish"]
    assert outcomes("journal.append.before", 5) == [False, False, True, False, False]
    assert outcomes("journal.finish", 2) == [True, False]
    assert outcomes("journal.create", 2) == [False, False]


def test_from_the_nth_on() -> None:
    arm("journal.append.before:2+:raise")
    assert outcomes("journal.append.before", 4) == [False, True, True, True]


def test_sleeping_takes_its_time() -> None:
    arm("journal.append.before:1:sleep(0.2)")
    started_s = time.monotonic()
    failpoints.passing("journal.append.before")
    assert time.monotonic() - started_s >= 0.2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("journal.append.befor:1:kill", "did you mean journal.append.before"),
        ("journal.append.before:0:kill", "is not name:nth:action"),
        ("journal.append.before:kill", "is not name:nth:action"),
        ("journal.append.before:1:explode", "is not name:nth:action"),
        ("journal.append.before:1:sleep", "is not name:nth:action"),
        ("journal.append.before:1:kill(3)", "is not name:nth:action"),
        ("journal.append.before:1:sleep(1.2.3)", "is not name:nth:action"),
        ("intake.seal:1:raise", "nothing can fail"),
    ],
)
def test_a_mistake_is_named(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        arm(text)


def place_of(argument: ast.expr) -> str:
    """The place that is written there; replacing a file names it after the file, and one file has such places."""
    return str(eval(ast.unparse(argument), {"path": Path(CURSOR_FILE)}))


def test_every_place_is_passed_somewhere_and_only_there() -> None:
    passed = Counter(
        place_of(node.args[0])
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "passing"
    )
    assert passed == Counter(list(failpoints.PLACES))
