"""Builds a daemon's sinks from its configuration."""

from __future__ import annotations

from typing import cast

from ingestd.config.models import Config
from ingestd.sinks.base import DurableParts, DurableSetup, DurableSink, LiveParts, LiveSetup, LiveSink, Setup
from ingestd.sinks.table import SINKS, SinkKind, configured


def durable_kinds(config: Config) -> list[str]:
    """The names of the durable sinks that this daemon runs."""
    return [name for name, kind in _running(config).items() if not kind.is_live]


def build_durable(name: str, parts: DurableParts) -> DurableSink:
    """Build the sink of this name."""
    return cast(DurableSetup, setup_of(SINKS[name])).build(parts)


def build_live(parts: LiveParts) -> list[LiveSink]:
    """Build every live sink that this daemon runs."""
    running = _running(parts.config).values()
    return [cast(LiveSetup, setup_of(kind)).build(parts) for kind in running if kind.is_live]


def setup_of(kind: SinkKind) -> Setup:
    """The `setup` module of this sink."""
    return cast(Setup, kind.setup())


def _running(config: Config) -> dict[str, SinkKind]:
    return {name: kind for name, kind in configured(config).items() if config.instance.role in kind.roles}
