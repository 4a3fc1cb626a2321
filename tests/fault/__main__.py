"""`python -m tests.fault`: every test the registry of faults names, and every property, at the length the environment
sets.

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
    apart = [test for test in named if "/fault/" not in test and "/property/" not in test]
    return pytest.main(["-q", "-s", "tests/fault", "tests/property", *apart, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
