"""`python -m tests.fault`: every test the registry of faults names, and every property, at the length the environment
sets.

Writes what was measured into docs/durability.md. Arguments go to pytest.
"""

from __future__ import annotations

import os
import sys

import pytest

from tests.fault.registry import FAULTS, WRITE

# What else the usual run shortens.
_SHORTER = (
    "tests/acceptance/test_captures.py",
    "tests/acceptance/test_gaps.py",
    "tests/contract/test_sinks.py",
    "tests/integration/storage",
)


def main() -> int:
    named = sorted({test for fault in FAULTS for test in fault.tests})
    os.environ[WRITE] = "1"
    whole = ("tests/fault", "tests/property", "tests/integration/property", *_SHORTER)
    apart = [test for test in named if not test.startswith(whole)]
    return pytest.main(["-q", "-s", "-m", "", *whole, *apart, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
