"""Builds the sink into InfluxDB, and checks its section."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from ingestd.config.models import Config
from ingestd.errors import ConfigError, Problem
from ingestd.sinks.base import Answer, DurableParts
from ingestd.sinks.influx.options import InfluxConfig
from ingestd.sinks.influx.server import InfluxServer
from ingestd.sinks.influx.sink import InfluxSink
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
