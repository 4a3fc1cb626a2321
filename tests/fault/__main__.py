"""`python -m tests.fault`: every test the registry of faults names, at the length the environment sets.

Writes what was measured into docs/durability.md. Arguments go to pytest.
"""

from __future__ import annotations

import os
import sys

import pytest

from tests.fault.registry import FAULTS, WRITE


def main() -> int:
    named = sorted({test for fault in FAULTS for test in fault.tests})
    os.environ[WRITE] = "1"
    return pytest.main(["-q", "-s", "tests/fault", *(test for test in named if "/fault/" not in test), *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
