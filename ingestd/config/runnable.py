"""Checks that a configuration has what a daemon of its role needs. Pure."""

from __future__ import annotations

from importlib.util import find_spec

from ingestd.config.indicators import LONGEST_WINDOW, PER_DAY
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
        lacking = [Problem(name, "is missing: the role sink reads Kafka and writes the database") for name in missing]
        return [*lacking, *_about_indicators(config)]
    problems = _about_indicators(config)
    if not config.feeds:
        problems.append(Problem("feeds", "no feed is configured", hint="add a [[feeds]] table"))
    if config.instance.role == "feed" and config.kafka is None:
        problems.append(Problem("kafka", "the role feed stores in Kafka only", hint="add [kafka]"))
    durable = [kind.section for kind in SINKS.values() if not kind.is_live]
    if config.instance.role == "all" and all(getattr(config, section) is None for section in durable):
        sections = " or ".join(f"[{section}]" for section in durable)
        problems.append(Problem(durable[0], "there is nowhere to store: no sink is configured", hint=f"add {sections}"))
    return problems


def _about_indicators(config: Config) -> list[Problem]:
    """List a problem for each indicator that could never have a value, and for what the daemon lacks to compute any."""
    if not config.indicators.rules or config.instance.role == "feed":
        return []
    problems = []
    if config.database is None:
        problems.append(Problem("indicators.rules", "needs [database], which holds the candles", hint="add [database]"))
    if find_spec("talib") is None:
        problems.append(
            Problem(
                "indicators.rules", "needs TA-Lib, which is not installed", hint="pip install 'ingestd[indicators]'"
            )
        )
    for path, name, timeframe, window in config.indicators.windows():
        key = f"candles_{timeframe.replace('M', 'month')}_days"
        days = getattr(config.retention, key)
        if window > LONGEST_WINDOW or (days and window > days * PER_DAY[timeframe]):
            kept = (
                f"retention.{key} keeps {int(days * PER_DAY[timeframe])}" if days else f"{LONGEST_WINDOW} is the most"
            )
            message = f"would always be NULL: {name}@{timeframe} needs {window} candles, and {kept}"
            problems.append(Problem(path, message, hint="raise seed_weight or the retention, or shorten its periods"))
    return problems
