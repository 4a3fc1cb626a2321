"""How many instructions a trade takes from the socket's bytes to COPY text, by callgrind; `python -m` this file writes
the figures that the test compares with (`make instructions`).

Instructions are counted, not time: the count is the same on a busy machine. It is another one on another build of
Python, so the figures say of which they are.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
COMMITTED = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.10
RECORDS = 2000
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)
_LONGEST_S = 230


class Figures(msgspec.Struct, frozen=True):
    """Instructions a trade by exchange, and what they were counted on."""

    python: str
    build: str
    machine: str
    records: int
    instructions_per_trade: dict[str, int]


def here(counts: Mapping[str, int]) -> Figures:
    """Counts of this interpreter."""
    optimised = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
    return Figures(
        python=".".join(platform.python_version_tuple()[:2]),
        build=f"{platform.python_compiler()}{', profile-guided' if optimised else ''}",
        machine=platform.machine(),
        records=RECORDS,
        instructions_per_trade=dict(counts),
    )


def comparable(committed: Figures, ours: Figures) -> str | None:
    """None when the two may be compared, else why they may not."""
    for what in ("python", "machine", "build"):
        then, now = getattr(committed, what), getattr(ours, what)
        if then != now:
            return f"the committed instruction counts are of another {what} ({then}) than this one ({now})"
    return None


def differences(committed: Mapping[str, int], counted: Mapping[str, int], tolerance: float = TOLERANCE) -> list[str]:
    """What is out of bounds, up or down: what became cheaper is to be committed, or it could be lost unnoticed."""
    found = [f"{name} is counted and has no committed figure" for name in sorted(counted.keys() - committed.keys())]
    for name, expected in committed.items():
        if name not in counted:
            found.append(f"{name} was not counted")
        elif abs(counted[name] / expected - 1) > tolerance:
            change = counted[name] / expected - 1
            found.append(f"{name}: {counted[name]:,} instructions a trade, {expected:,} committed ({change:+.0%})")
    return found


def count(exchanges: Sequence[str]) -> dict[str, int]:
    """Instructions a trade by exchange. Raises FileNotFoundError without valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise FileNotFoundError("valgrind is not installed")
    with tempfile.TemporaryDirectory(prefix="ingestd-callgrind-") as folder:
        out = Path(folder) / "out"
        options = ("--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=getppid*")
        script = (sys.executable, "-m", "tests.performance.decode_and_copy", str(RECORDS), *exchanges)
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [valgrind, *options, *script],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
        if done.returncode != 0 or done.stdout.split() != list(exchanges):
            raise RuntimeError(f"callgrind or what it ran failed:\n{done.stdout}\n{done.stderr[-3000:]}")
        # Before each mark one file: what came before a venue's first mark is warming up, the rest is the venue.
        totals = [
            int(_TOTALS.findall(Path(f"{out}.{number}").read_text())[0]) for number in range(1, 2 * len(exchanges) + 1)
        ]
    return {name: totals[2 * index + 1] // RECORDS for index, name in enumerate(exchanges)}


def read() -> Figures:
    """The committed figures."""
    return msgspec.json.decode(COMMITTED.read_bytes(), type=Figures)


def main() -> None:
    """Count and commit to the file."""
    from tests.performance.venues import EXCHANGES

    figures = here(count(EXCHANGES))
    COMMITTED.write_text(json.dumps(msgspec.to_builtins(figures), indent=2) + "\n", encoding="utf-8")
    print(COMMITTED.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
