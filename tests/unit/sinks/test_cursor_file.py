"""The file of a sink's acknowledged positions."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ingestd.errors import SinkStateError
from ingestd.sinks.cursor_file import CursorFile


async def test_the_cursor_file_survives_and_forgets_what_is_gone(tmp_path: Path) -> None:
    marks = CursorFile(tmp_path, "kafka")
    marks.load(["a"])
    marks.acknowledge("a", 7)
    marks.acknowledge("b", 3)
    await marks.save()
    assert json.loads((tmp_path / "kafka.cursor").read_bytes()) == {"version": 1, "positions": {"a": 7, "b": 3}}
    again = CursorFile(tmp_path, "kafka")
    again.load(["b"])
    assert again.positions == {"b": 3}
    again.forget_all_but([])
    await again.save()
    assert json.loads((tmp_path / "kafka.cursor").read_bytes())["positions"] == {}


async def test_a_disk_that_refuses_is_tried_again(tmp_path: Path) -> None:
    marks = CursorFile(tmp_path / "missing", "kafka")
    marks.acknowledge("a", 7)
    await marks.save()
    (tmp_path / "missing").mkdir()
    keeping = asyncio.create_task(marks.keep())
    while not marks.path.exists():
        await asyncio.sleep(0.01)
    keeping.cancel()
    await asyncio.wait({keeping})


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"version":1}', b'{"version":1,"positions":{"a":"x"}}', b"\x00" * 50]
)
def test_a_damaged_cursor_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kafka.cursor").write_bytes(content)
    marks = CursorFile(tmp_path, "kafka")
    marks.load(["a"])
    assert marks.positions == {}


def test_a_cursor_file_that_cannot_be_read_is_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "kafka.cursor").mkdir()
    with pytest.raises(SinkStateError, match="permissions"):
        CursorFile(tmp_path, "kafka").load(["a"])
