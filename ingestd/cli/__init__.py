"""The command line: one file per command, imported only when the command is called.

Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

import click

from ingestd import __version__, failpoints
from ingestd.errors import ConfigError, IngestdError

EXIT_FAILED = 1
EXIT_USAGE = 2

# Each command is the function of this name in the file of this name. Its line in `ingestd --help` is here because the
# help must not import the commands.
COMMANDS = {
    "init": "Write a first configuration.",
    "exchanges": "List exchanges, their channels and markets.",
    "run": "Capture until stopped.",
    "check": "Check a configuration and print the effective settings.",
    "migrate": "Bring the database to this version's schema.",
    "connections": "Store and rotate the credentials of exchange connections.",
    "doctor": "Find what is wrong with the database, and what mends it.",
    "gaps": "List the periods in which data may be missing, and why.",
    "backfill": "Fetch historical data of a venue and store it.",
    "demo": "Run the whole pipeline on this machine and verify the result.",
    "bench": "Measure this machine against the target figures.",
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is called, so that `--version` does not load an exchange library."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"ingestd.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from ingestd.config.messages import nearest

            near = nearest(name, COMMANDS)
            meant = f"{near} " if near else ""
            raise click.UsageError(f"there is no command {name!r}; {meant}`ingestd --help` lists them", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ingestd", message="%(prog)s %(version)s")
def cli() -> None:
    """Capture crypto market data without loss into TimescaleDB, Redis and Kafka."""
    failpoints.arm(os.environ)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit the process with its exit code."""
    with _interrupted_like_terminated():
        _run(arguments)
    sys.exit(0)


@contextlib.contextmanager
def _interrupted_like_terminated() -> Iterator[None]:
    """Until a command handles signals itself (cli.signals), let Ctrl-C end it silently, as SIGTERM does."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run(arguments: Sequence[str] | None) -> None:
    try:
        cli.main(args=None if arguments is None else list(arguments), prog_name="ingestd")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "ingestd":
            sys.exit(report(error))
        remedy = "install ingestd with its dependencies (pip install .)"
        sys.exit(f"ingestd: the Python package {error.name} is not installed: {remedy}")
    except Exception as error:  # noqa: BLE001  # the last line of defence: every error gets its message and exit code
        sys.exit(report(error))


def report(error: Exception) -> int:
    """Print an error to standard error and return the exit code for it.

    An IngestdError prints its message; any other error is a bug and prints its traceback.
    """
    from ingestd.cli.say import counted, say
    from ingestd.config.secrets import redact

    leaves = list(_leaves(error))
    if not all(isinstance(leaf, IngestdError) for leaf in leaves):
        say(redact("".join(traceback.format_exception(error))), err=True, nl=False)
        return EXIT_FAILED
    for leaf in leaves:
        for line in (redact(str(leaf)).rstrip("\n") or type(leaf).__name__).split("\n"):
            say(f"ingestd: {line}", err=True)
        if isinstance(leaf, ConfigError) and leaf.file is not None:
            of_variables = sum(problem.path.startswith("INGESTD_") for problem in leaf.problems)
            counts = ((len(leaf.problems) - of_variables, leaf.file), (of_variables, "the environment"))
            places = [f"{counted(count, 'mistake')} in {place}" for count, place in counts if count]
            say(f"ingestd: {', '.join(places)}", err=True)
    return EXIT_USAGE if any(isinstance(leaf, ConfigError) for leaf in leaves) else EXIT_FAILED


def _leaves(error: BaseException) -> Sequence[BaseException]:
    """Unwrap the exception groups of task groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in _leaves(member)]
    return [error]
