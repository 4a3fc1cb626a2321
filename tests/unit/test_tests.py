"""What every test keeps to, read from the source: it looks at the package from outside."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The package gives a private name to what it defines or keeps in its own objects.
DEFINED = re.compile(r"(?:^\s*|\bdef |\bclass |\bself\.|\bcls\.)(_[A-Za-z]\w*)", re.MULTILINE)
MENTIONED = re.compile(r"(?<!self\.)(?<!cls\.)\b_[A-Za-z]\w*")
OF_A_NAMED_TUPLE = {"_replace", "_asdict", "_fields", "_make"}  # public: the underscore keeps them from being fields
BY_NAME = {"getattr", "setattr", "hasattr", "delattr", "setitem", "delitem"}  # of an object, or of monkeypatch


@functools.cache
def private_names() -> frozenset[str]:
    """What the package keeps to itself."""
    texts = (file.read_text(encoding="utf-8") for file in (ROOT / "ingestd").rglob("*.py"))
    return frozenset(name for text in texts for name in DEFINED.findall(text)) - OF_A_NAMED_TUPLE


def read_from_outside(code: str, private: Collection[str]) -> Iterator[str]:
    """Every private name of the package that a test reaches for. What a test's own class says of itself is its own."""
    if not set(MENTIONED.findall(code)) & set(private):
        return
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and node.attr in private:
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ingestd":
            yield from (f"line {node.lineno}: {alias.name}" for alias in node.names if alias.name in private)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
            named = [a.value for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            yield from (f"line {node.lineno}: {name!r}" for name in named if name.rpartition(".")[2] in private)


def test_no_test_reads_what_the_package_keeps_to_itself() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    found = {
        f"{file.relative_to(ROOT)}, {what}"
        for file in files
        for what in read_from_outside(file.read_text(encoding="utf-8"), private_names())
    }
    assert found == set()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("journal._files", True),
        ("rig.sink._writer.status", True),
        ("super()._tick()", True),
        ("from ingestd.kafka.envelope import _KIND_OF", True),
        ("monkeypatch.setattr(journal, '_files', {})", True),
        ("monkeypatch.setattr('ingestd.journal.journal._files', {})", True),
        ("getattr(journal, '_files')", True),
        ("self._files", False),
        ("journal.files", False),
        ("loop._transports", False),
        ("from tests.support.topics import _wait", False),
    ],
)
def test_what_is_kept_private_is_found(code: str, found: bool) -> None:
    names = {"_files", "_writer", "_tick", "_KIND_OF", "_wait"}
    assert bool(list(read_from_outside(code, names))) is found


def test_the_package_s_private_names_are_known() -> None:
    text = "_TABLE = 1\nclass _Own:\n    _kind: int\n    def _do(self):\n        self._x, other._y = 1, 2\n"
    assert set(DEFINED.findall(text)) == {"_TABLE", "_Own", "_kind", "_do", "_x"}
    assert len(private_names()) > 500
