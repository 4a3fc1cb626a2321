"""Builds the sink into InfluxDB, and checks its section."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from ingestd.config.models import Config
from ingestd.errors import ConfigError, Problem
from ingestd.sinks.base import Answer, DurableParts, ReportParts, sends_indicators
from ingestd.sinks.influx.indicators import IndicatorValues
from ingestd.sinks.influx.options import InfluxConfig
from ingestd.sinks.influx.own_metrics import OwnMetrics
from ingestd.sinks.influx.reports import Reading, Report, Source
from ingestd.sinks.influx.server import InfluxServer
from ingestd.sinks.influx.sink import InfluxSink
from ingestd.sinks.influx.trade_events import TradeEvents
from ingestd.sinks.table import SINKS
from ingestd.venues.market_names import Names


def build(parts: DurableParts) -> InfluxSink:
    """Build the sink."""
    options = parts.config.section(InfluxConfig)
    return InfluxSink(
        cursor=parts.cursor,
        journal_ids=parts.journal_ids,
        connect=partial(InfluxServer.connect, options),
        config=options,
        state_dir=parts.config.instance.state_dir,
        metrics=parts.metrics,
        names=Names(options.symbol_style, parts.known),
    )


def reports(parts: ReportParts) -> list[Report]:
    """Build what sends the measurements that come from no journal."""
    config = parts.config
    options = config.section(InfluxConfig)
    connect, names = partial(InfluxServer.connect, options), Names(options.symbol_style, parts.known)
    sources: list[Source] = []
    if parts.access is not None and options.trade_events:
        server, exchange = f"{options.url}/{options.bucket}", config.events.default_exchange
        reading, count = Reading(parts.access), options.max_flush_records
        sources.append(TradeEvents(reading, server, names, default_exchange=exchange, count=count))
    if parts.access is not None and sends_indicators(config):
        reading, count = Reading(parts.access), options.max_flush_records
        sources.append(IndicatorValues(reading, config.indicators, parts.holds, names, count=count))
    if options.metrics:
        sources.append(OwnMetrics(parts.instance, parts.own_metrics))
    has_sink = config.instance.role in SINKS["influx"].roles
    return [
        Report(source, connect, config.instance.state_dir, parts.metrics, logs_outages=not has_sink and number == 0)
        for number, source in enumerate(sources)
    ]


def problems(config: Config) -> Iterator[Problem]:
    """Report unreadable files of secrets and certificates."""
    options = config.section(InfluxConfig)
    for file, read in ((options.password_file, options.password), (options.token_file, options.token)):
        if file is not None:
            try:
                read()
            except ConfigError as error:
                yield from error.problems
    if options.ca_file is not None and not os.access(options.ca_file, os.R_OK):
        why = "this user may not" if options.ca_file.exists() else "no such file"
        yield Problem("influx.ca_file", f"{options.ca_file} cannot be read: {why}")


async def ask(config: Config) -> Answer:
    """Ask whether the server answers, and would take points for this bucket from this user."""
    server = await InfluxServer.connect(config.section(InfluxConfig))
    await server.close()
    return Answer(f"{server}: answered")
