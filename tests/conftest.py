"""Fixtures for every test, and the list of what did not run."""

from __future__ import annotations

pytest_plugins = [
    "tests.support.postgres",
    "tests.support.redis_servers",
    "tests.support.brokers",
    "tests.support.skipped",
    "tests.support.durability",
]
