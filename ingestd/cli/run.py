"""`ingestd run`: the daemon in the foreground; SIGTERM or SIGINT drains and exits, a second one forces."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import click
import structlog
import uvloop

from ingestd.cli.check import load_checked
from ingestd.cli.options import config_option
from ingestd.config import Config
from ingestd.errors import ConfigError
from ingestd.ops import garbage, logs
from ingestd.service import Service
from ingestd.shard import Shard
from ingestd.sink_service import SinkService

log = structlog.get_logger()


@click.command()
@config_option
@click.option("--role", type=click.Choice(["all", "feed", "sink"]), help="Instead of the file's instance.role.")
@click.option("--shard", default="0/1", metavar="i/n", help="Follow only this part of the symbols; i counts from 0.")
def run(config_file: Path, role: str | None, shard: str) -> None:
    """Capture until stopped.

    Role all: feeds, journal and every sink here. feed: no database; the sinks read Kafka. sink: from Kafka into the
    database, as a member of the group kafka.group_id.

    SIGTERM closes the feeds, stores what was captured within instance.shutdown_deadline_s, and exits 0; what could
    not be stored stays in the journal for the next start. A second SIGTERM exits at once with 1.
    """
    config = _with_role(load_checked(config_file), role)
    logs.configure(config.log)
    _hide_secrets(config)
    part = Shard.parse(shard)
    service = SinkService(config) if config.instance.role == "sink" else Service(config, part)
    garbage.tame()
    uvloop.run(_until_stopped(service, config_file, role))


def _with_role(config: Config, role: str | None) -> Config:
    if role is None:
        return config
    return config.model_copy(update={"instance": config.instance.model_copy(update={"role": role})})


async def _until_stopped(service: Service | SinkService, config_file: Path, role: str | None) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_stop_signal, service, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGHUP, _on_reload_signal, service, config_file, role)
    await service.run()


def _on_reload_signal(service: Service | SinkService, config_file: Path, role: str | None) -> None:
    try:
        config = _with_role(load_checked(config_file), role)
    except ConfigError as error:
        service.refuse_reload(error)
    else:
        service.reload(config)


def _on_stop_signal(service: Service | SinkService, name: str) -> None:
    if service.stop_requested:
        log.warning("forced_exit", signal=name, journal="holds what was not stored")
        # Nothing to tidy: what was journaled is synced, and the next start goes on from there.
        os._exit(1)
    service.request_stop(name)


def _hide_secrets(config: Config) -> None:
    """What must not appear in a log line, whatever a library quotes in its errors."""
    secrets = [secret for feed in config.feeds for secret in feed.credentials().values()]
    if config.database is not None:
        secrets.append(urlsplit(config.database.resolved_dsn()).password or "")
    sections = [section for section in (config.redis, config.kafka) if section is not None]
    secrets += [section.password() or "" for section in sections if section.password_file is not None]
    if config.redis is not None:
        secrets.append(urlsplit(config.redis.url).password or "")
    for secret in secrets:
        logs.hide(secret)
