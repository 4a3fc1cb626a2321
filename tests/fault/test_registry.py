"""Every fault of the matrix names a test that exists, or says why there is none; docs/durability.md has them all."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from tests.fault.registry import FAULTS, Fault

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
