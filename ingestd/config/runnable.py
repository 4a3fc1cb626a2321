"""Checks that a configuration has what a daemon of its role needs. Pure."""

from __future__ import annotations

from ingestd.config.models import Config
from ingestd.errors import ConfigError, Problem
from ingestd.sinks.table import SINKS


def require_runnable(config: Config) -> None:
    """Raise ConfigError if the configuration lacks a section that the daemon needs in its role."""
    if problems := what_is_lacking(config):
        raise ConfigError(problems)


def what_is_lacking(config: Config) -> list[Problem]:
    """List a problem for each missing section that the daemon needs in its role."""
    if config.instance.role == "sink":
        missing = [section for section in ("kafka", "database") if getattr(config, section) is None]
        return [Problem(name, "is missing: the role sink reads Kafka and writes the database") for name in missing]
    problems = []
    if not config.feeds:
        problems.append(Problem("feeds", "no feed is configured", hint="add a [[feeds]] table"))
    if config.instance.role == "feed" and config.kafka is None:
        problems.append(Problem("kafka", "the role feed stores in Kafka only", hint="add [kafka]"))
    durable = [kind.section for kind in SINKS.values() if not kind.is_live]
    if config.instance.role == "all" and all(getattr(config, section) is None for section in durable):
        sections = " or ".join(f"[{section}]" for section in durable)
        problems.append(Problem(durable[0], "there is nowhere to store: no sink is configured", hint=f"add {sections}"))
    return problems
