"""The targets under atheris, by coverage: `python -m tests.fuzz.run_atheris TARGET [libFuzzer options]`.

Keeps what it found interesting in `.fuzz/TARGET`, so that the next run goes on from there.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import structlog

try:
    import atheris
except ImportError as error:
    raise SystemExit("atheris is not installed: `make fuzz` does it (CPython 3.11 to 3.13 on Linux)") from error

with atheris.instrument_imports(include=["ingestd", "tests.fuzz"]):
    from tests.fuzz import targets


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in targets.TARGETS:
        raise SystemExit(f"name a target: {', '.join(targets.TARGETS)}")
    corpus = Path(".fuzz") / sys.argv[1]
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.seeds(sys.argv[1])):
        (corpus / f"seed-{number}").write_bytes(seed)
    logging.disable()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus)], targets.TARGETS[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
