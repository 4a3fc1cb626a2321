"""`ingestd run`: the daemon in the foreground. SIGTERM or SIGINT stops it in order, a later one at once."""

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
@click.option("--role", type=click.Choice(["all", "feed", "sink"]), help="Instead of the file's instance.role.")
@click.option("--shard", default="0/1", metavar="i/n", help="Follow only this part of the symbols; i counts from 0.")
def run(config_file: Path, role: str | None, shard: str) -> None:
    """Capture until stopped.

    Role all: feeds, journal and every sink here. feed: no database; the sinks read Kafka. sink: from Kafka into the
    database, as a member of the group kafka.group_id.

    SIGTERM or SIGINT closes the feeds, stores what was captured within instance.shutdown_deadline_s, and exits 0; what
    could not be stored stays in the journal for the next start. A second SIGINT (two within 0.1 s are one), or a
    SIGTERM a second or more after the first, exits at once with 1. SIGHUP reads the configuration again.
    """
    with private(), listening(others=[signal.SIGHUP]) as listener:
        _run(config_file, role, shard, listener)


def _run(config_file: Path, role: str | None, shard: str, listener: Listener) -> None:
    # Imported here, since it takes a second or two: a signal that comes meanwhile must find the listener.
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
        sys.exit(EXIT_USAGE)  # the log has named each mistake


async def until_stopped(
    service: Service | SinkService, config_file: Path, role: str | None, listener: Listener | None = None
) -> None:
    """Without a listener, as in a process that is forked into this, the signals are taken from here on."""

    def tell(number: signal.Signals, forced: bool) -> None:
        if number == signal.SIGHUP:
            _reload(service, config_file, role)
        elif forced:
            log.warning("forced_exit", signal=number.name, journal="holds what was not stored")
            # Nothing to tidy: what was journaled is synced, and the next start goes on from there.
            os._exit(1)
        else:
            service.life.request_stop(number.name)

    (listener or Listener(STOPS, [signal.SIGHUP])).hand_to(tell)
    await service.run()


def _reload(service: Service | SinkService, config_file: Path, role: str | None) -> None:
    from ingestd.cli.loading import load_runnable

    if (
        service.life.stop_requested
    ):  # systemd sends it with SIGTERM where SendSIGHUP is set, and so does a closing terminal
        log.info("reload_ignored", because="the stop has begun")
        return
    try:
        config = load_runnable(config_file, role)
    except ConfigError as error:
        service.life.refuse_reload(error)
    else:
        service.reload(config)
