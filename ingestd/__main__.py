"""`python -m ingestd`, and the console script `ingestd`."""

import signal
import sys

# Before the imports, which take a moment: Ctrl-C ends the process silently, as SIGTERM does, not with a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    from ingestd.cli import main
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] == "ingestd":
        raise
    what = f"the Python package {error.name} is not installed"
    sys.exit(f"ingestd: {what}: install ingestd with its dependencies (pip install .)")

if __name__ == "__main__":
    main()
