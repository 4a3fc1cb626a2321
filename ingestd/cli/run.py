"""`ingestd run`: the daemon in the foreground. SIGTERM or SIGINT stops it in order, a second one at once."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import structlog
import uvloop

from ingestd.cli import EXIT_USAGE
from ingestd.cli.options import config_option
from ingestd.cli.signals import STOPS, Listener, listening
from ingestd.errors import ConfigError
from ingestd.files import private

if TYPE_CHECKING:
    from ingestd.service import Service
    from ingestd.sink_service import SinkService

log = structlog.get_logger()


@click.command()
@config_option
@click.option("--role", type=click.Choice(["all", "feed", "sink"]), help="Override instance.role of the file.")
@click.option("--shard", default="0/1", metavar="i/n", help="Capture only this part of the symbols; i counts from 0.")
def run(config_file: Path, role: str | None, shard: str) -> None:
    """Capture until stopped.

    Role all: feeds, journal and all sinks in this process. feed: no database; publishes to Kafka and Redis. sink:
    stores Kafka's topics in the database, as a member of the group kafka.group_id.

    SIGTERM or SIGINT closes the feeds, stores the captured records within instance.shutdown_deadline_s, and exits with
    0; records not stored by then stay in the journal for the next start. A second SIGINT (two within 0.1 s count as
    one), or a SIGTERM a second or more after the first signal, exits at once with 1. SIGHUP reloads the configuration.
    """
    with private(), listening(others=[signal.SIGHUP]) as listener:
        _run(config_file, role, shard, listener)


def _run(config_file: Path, role: str | None, shard: str, listener: Listener) -> None:
    # Imported here because it takes a second or two, in which the listener must already receive signals.
    from ingestd.cli.loading import load_runnable
    from ingestd.cli.secret_files import readable_by_all
    from ingestd.config.loading import deprecated
    from ingestd.lifecycle import Shard
    from ingestd.ops import garbage, logs
    from ingestd.service import Service
    from ingestd.sink_service import SinkService

    config = load_runnable(config_file, role)
    logs.configure(config.log)
    for option in deprecated(config):
        log.warning("option_deprecated", option=option.path, because=option.message, remedy=option.hint)
    for secret in readable_by_all(config, config_file):
        log.warning(
            "secret_readable_by_all", of=secret.path, file=secret.value, because=secret.message, remedy=secret.hint
        )
    part = Shard.parse(shard)
    service = SinkService(config) if config.instance.role == "sink" else Service(config, part)
    garbage.tame()
    if (first := listener.stops.first) is not None:
        log.info("stopped_before_the_start", reason=first.name)
        return
    try:
        uvloop.run(until_stopped(service, config_file, role, listener))
    except ConfigError as error:
        if error is not service.tasks.fatal:
            raise
        sys.exit(EXIT_USAGE)  # the mistakes are in the log


async def until_stopped(
    service: Service | SinkService, config_file: Path, role: str | None, listener: Listener | None = None
) -> None:
    """Run the service until it stops. Without a listener, signals are handled from here on."""

    def tell(number: signal.Signals, forced: bool) -> None:
        if number == signal.SIGHUP:
            _reload(service, config_file, role)
        elif forced:
            log.warning("forced_exit", signal=number.name, journal="holds what was not stored")
            # No cleanup is needed: the journal is synced, and the next start continues from it.
            os._exit(1)
        else:
            service.life.request_stop(number.name)

    (listener or Listener(STOPS, [signal.SIGHUP])).hand_to(tell)
    await service.run()


def _reload(service: Service | SinkService, config_file: Path, role: str | None) -> None:
    from ingestd.cli.loading import load_runnable

    if service.life.stop_requested:  # systemd with SendSIGHUP, or a closing terminal, sends both signals
        log.info("reload_ignored", because="the stop has begun")
        return
    try:
        config = load_runnable(config_file, role)
    except ConfigError as error:
        service.life.refuse_reload(error)
    else:
        service.reload(config)
