"""What the demo says of a daemon that does not do its work."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd.lab.demo import processes
from ingestd.lab.demo.processes import LabError


async def test_a_daemon_that_has_logged_nothing_has_no_last_words(tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        async with processes.daemon(tmp_path, {"instance": {}}):
            raise LabError("it is slow")
    assert str(caught.value) == "it is slow\nthe daemon has logged nothing"


async def test_a_daemon_that_ends_before_it_has_started_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(
        LabError, match=r"(?s)^the daemon ended with 2 while it should have run\nthe daemon's last words:\n.+"
    ):
        async with processes.daemon(tmp_path, {"instance": {}, "feeds": [{"exchange": "nowhere"}]}) as daemon:
            await daemon.until_started()


async def test_a_daemon_that_hangs_has_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "START_S", 0.0)
    with pytest.raises(LabError, match=r"^the daemon has not started in 0 s\n"):
        async with processes.daemon(tmp_path, {"instance": {}}) as daemon:
            await daemon.until_started()
