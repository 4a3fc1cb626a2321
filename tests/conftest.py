"""Fixtures for every test, and the list of what did not run."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, settings

from tests.support.fast_disk import keep_files_in_memory
from tests.support.time_limits import AT_LENGTH, examples

if not AT_LENGTH:  # there the real disk is a part of what is tried
    keep_files_in_memory()

# How fast a machine draws examples says nothing about the code.
settings.register_profile(
    "any machine", max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

pytest_plugins = [
    "tests.support.postgres",
    "tests.support.redis_servers",
    "tests.support.brokers",
    "tests.support.influx_servers",
    "tests.support.certificates",
    "tests.support.plain_logs",
    "tests.support.skipped",
    "tests.support.durability",
]


def pytest_collection_finish() -> None:
    """Thousands of tests and the exchange library's classes live as long as the run: no search for garbage in them."""
    gc.collect()
    gc.freeze()
