"""Failpoints of a process: it dies at the place, and without the test flag it does not start."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from ingestd import failpoints
from tests.support.daemon import ingestd

PACKAGE = Path(__file__).parents[2] / "ingestd"


async def test_the_command_refuses_to_start_with_one() -> None:
    code, _, err = await ingestd("check", env={failpoints.VARIABLE: "journal.append.before:1:kill"})
    assert code == 2
    assert failpoints.TEST_FLAG in err


def test_killing_leaves_no_time_for_anything() -> None:
    code = "import os; from ingestd import failpoints; failpoints.arm(os.environ); failpoints.passing('intake.seal')"
    environ = {failpoints.VARIABLE: "intake.seal:1:kill", failpoints.TEST_FLAG: "1", "PYTHONPATH": str(PACKAGE.parent)}
    assert subprocess.run([sys.executable, "-c", code], env=environ, check=False).returncode == -signal.SIGKILL
