"""Every fault of the matrix names a test that exists, or says why there is none; docs/durability.md has them all."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from tests.fault.registry import FAULTS, Fault
from tests.support.durability import Result, between_marks, matrix

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "durability.md"


@functools.cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_none_of_the_51_is_missing() -> None:
    assert [fault.number for fault in FAULTS] == list(range(1, 52))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.number}")
def test_it_names_tests_that_exist_or_a_reason(fault: Fault) -> None:
    assert fault.tests or len(fault.note) > 20
    for test in fault.tests:
        file, _, name = test.partition("::")
        assert name.startswith("test_")
        assert name in names_in(file), test


def test_the_document_shows_every_fault() -> None:
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    for fault in FAULTS:
        (line,) = [line for line in lines if line.startswith(f"| {fault.number} |")]
        assert fault.name in line
        assert fault.expected in line


def test_the_table_says_what_became_of_each() -> None:
    faults = [
        Fault(1, "one", "kept", ("a.py::test_measures", "a.py::test_passes")),
        Fault(2, "two", "kept", ("a.py::test_passes",), "a note"),
        Fault(3, "three", "kept", ("a.py::test_fails", "a.py::test_left_out")),
        Fault(4, "four", "kept", note="it cannot be done here"),
        Fault(5, "five", "kept", ("a.py::test_skipped",)),
    ]
    results = {
        "a.py::test_measures": Result(passed=2, measured=["1 s", "2 s"]),
        "a.py::test_passes": Result(passed=3),
        "a.py::test_fails": Result(passed=1, failed=1),
        "a.py::test_skipped": Result(skipped=["no disk"]),
    }
    lines = matrix(faults, results)[2:]
    assert [line.split(" | ")[3] for line in lines] == [
        "1 s; 2 s",
        "3 tests passed; a note",
        "**1 failed**; not run: left out of this run",
        "no test: it cannot be done here",
        "not run: no disk",
    ]


def test_what_stands_outside_the_marks_is_left_alone() -> None:
    text = "before\n<!-- x -->\nold\n<!-- end x -->\nafter"
    assert between_marks(text, "x", ["new"]) == "before\n<!-- x -->\nnew\n<!-- end x -->\nafter"
    with pytest.raises(AssertionError, match="no marks"):
        between_marks(text, "y", [])
