"""How `ingestd doctor` prints a report."""

from __future__ import annotations

import orjson

from ingestd.cli.doctor import to_json, to_text, verdict
from ingestd.storage.doctor.checks import CHECKS, Report
from ingestd.storage.doctor.findings import Finding
from ingestd.storage.engine import Engine

NOTE = Finding("note", "disk", "it grows", "-- lower")
ERROR = Finding("error", "public.trades.kind", "the column is missing", "ALTER TABLE one;\nALTER TABLE two;")
WARNING = Finding("warning", "public.mine", "unused", "DROP INDEX public.mine;")
REPORT = Report("market at h", Engine.POSTGRES, {"disk": [NOTE], "indexes": [WARNING], "schema": [ERROR], "clock": []})


def test_the_worst_comes_first_and_each_has_its_remedy_below_it() -> None:
    assert to_text(REPORT).splitlines() == [
        "ERROR schema: public.trades.kind: the column is missing",
        "    ALTER TABLE one;",
        "    ALTER TABLE two;",
        "WARNING indexes: public.mine: unused",
        "    DROP INDEX public.mine;",
        "NOTE disk: disk: it grows",
        "    -- lower",
    ]


def test_the_verdict_counts() -> None:
    assert verdict(REPORT) == "1 error, 1 warning, 1 note; 4 checks of market at h (postgres)"
    assert verdict(Report("m", Engine.POSTGRES, {"clock": []})) == "nothing is wrong; 1 check of m (postgres)"
    stopped = Report("m", None, {"server": [ERROR, ERROR]}, ("schema", "disk"))
    assert verdict(stopped) == "2 errors; 1 check of m; left out until that is mended: schema, disk"


def test_json_is_one_object() -> None:
    told = orjson.loads(to_json(REPORT))
    assert told["ok"] is False
    assert told["engine"] == "postgres"
    assert told["checks"] == ["disk", "indexes", "schema", "clock"]
    assert [(found["check"], found["level"]) for found in told["findings"]] == [
        ("disk", "note"),
        ("indexes", "warning"),
        ("schema", "error"),
    ]
    assert told["findings"][2]["remedy"] == ERROR.remedy
    assert orjson.loads(to_json(Report("m", None, {})))["ok"] is True


def test_each_check_has_a_name_of_its_own() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(check.about for check in CHECKS)
