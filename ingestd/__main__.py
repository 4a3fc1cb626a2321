"""`python -m ingestd`."""

import sys

try:
    from ingestd.cli import main
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] == "ingestd":
        raise
    what = f"the Python package {error.name} is not installed"
    sys.exit(f"ingestd: {what}: install ingestd with its dependencies (pip install .)")

main()
