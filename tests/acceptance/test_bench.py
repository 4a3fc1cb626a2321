"""`ingestd bench --quick`, in its shortest form: the real parts are measured, and the table says what was not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.daemon import ingestd


@pytest.mark.campaign
async def test_a_quick_run_measures_and_judges(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    parts = ("--part", "wire", "--part", "store", "--part", "outage")
    code, out, err = await ingestd(
        *("bench", "--quick", "--rows", "5000", "--outage-s", "2", *parts, "--markdown", "--json", str(file)),
        timeout_s=110,
    )
    assert code == 0, out + err
    document = json.loads(file.read_bytes())
    figures = {figure["key"]: figure for figure in document["figures"]}
    for key in ("wire.native", "wire.psql", "wire.all_sinks", "wire.ccxt", "store.sink", "outage.catch_up"):
        assert figures[key]["value"] > 0, key
    ratio = figures["wire.native"]["value"] / figures["wire.psql"]["value"]
    assert figures["wire.native"]["ratio"] == ratio
    verdicts = {line["what"]: line["verdict"] for line in document["targets"]}
    assert list(verdicts.values()).count("not measured") == len(verdicts) - 4
    assert f"| {ratio:.2f}× |" in out
