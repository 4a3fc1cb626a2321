"""The file of refused records."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ingestd.errors import SinkStateError
from ingestd.sinks.influx.points import Refusal
from ingestd.sinks.influx.refused import RefusedFile
from tests.support.records import trade


def refusals(*numbers: int) -> list[Refusal]:
    return [Refusal(trade(number), "influx_field_type", "field type conflict") for number in numbers]


def ids_in(file: Path) -> list[str]:
    return [json.loads(line)["record"]["trade_id"] for line in file.read_text().splitlines()]


def test_each_is_a_line_with_its_record_and_reason(tmp_path: Path) -> None:
    file = RefusedFile(tmp_path)
    file.keep(refusals(1))
    file.keep(refusals(2, 3))
    assert ids_in(file.path) == ["1", "2", "3"]
    line = json.loads(file.path.read_text().splitlines()[0])
    assert (line["channel"], line["reason"], line["error"]) == ("trades", "influx_field_type", "field type conflict")
    assert line["record"]["price"] == "64000.10"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_the_newest_are_kept(tmp_path: Path) -> None:
    file = RefusedFile(tmp_path, most_bytes=1000)
    for number in range(20):
        file.keep(refusals(number))
    before = tmp_path / "influx.refused.1"
    kept = ids_in(before) + ids_in(file.path)
    assert kept == [str(number) for number in range(20)][-len(kept) :]
    assert max(before.stat().st_size, file.path.stat().st_size) <= 1000


def test_a_disk_that_refuses_is_not_ignored(tmp_path: Path) -> None:
    file = RefusedFile(tmp_path)
    file.path.mkdir()
    with pytest.raises(SinkStateError, match=r"influx\.refused"):
        file.keep(refusals(1))


def test_the_log_says_it_once_a_minute_with_an_example(tmp_path: Path) -> None:
    assert RefusedFile(tmp_path).problem is None
    file = RefusedFile(tmp_path)
    with capture_logs() as logged:
        file.tell(refusals(1, 2, 3))
        file.tell(refusals(4))
    assert [(line["event"], line["records"]) for line in logged] == [("influx_points_refused", 3)]
    assert "field type conflict" in (file.problem or "")
