"""The units that are shipped: what limits the daemon's memory."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import pytest

from ingestd.config.models import IntakeConfig, JournalConfig
from ingestd.feeds.wire_limits import MAX_REPLY_BYTES

UNITS = Path(__file__).parents[2] / "systemd"


@pytest.mark.parametrize("name", ["ingestd.service", "ingestd@.service"])
def test_memory_is_limited_above_what_the_daemon_may_hold(name: str) -> None:
    unit = ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # its names have capitals
    unit.read(UNITS / name)
    high, most = (_bytes(unit["Service"][key]) for key in ("MemoryHigh", "MemoryMax"))

    assert IntakeConfig().max_open_bytes * 2 + JournalConfig().memory_bytes + 10 * MAX_REPLY_BYTES < high < most


def _bytes(text: str) -> int:
    return int(text[:-1]) << {"M": 20, "G": 30}[text[-1]]
