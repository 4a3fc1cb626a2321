"""`ingestd migrate`, `migrate status`, `migrate down`, `migrate roles`: the database's schema, policies and roles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypedDict, TypeVar

import click

from ingestd.cli.database_address import Address, dsn_option
from ingestd.cli.options import Integer, later_config_option
from ingestd.cli.say import say
from ingestd.cli.signals import run_to_its_end
from ingestd.config.models import Config
from ingestd.config.packs import PACKS
from ingestd.storage import deletions, symbol_style
from ingestd.storage import migrate as migrations
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.doctor import server
from ingestd.storage.doctor.findings import Finding
from ingestd.storage.engine import EngineChoice
from ingestd.storage.migrations import read_sql
from ingestd.storage.packs import configured

Result = TypeVar("Result")

_ENGINES = click.Choice(["auto", "timescaledb", "postgres"])


class _Chosen(TypedDict):
    """What the options say, for the plan and the migration alike."""

    engine: EngineChoice
    rename_symbols: bool
    keep_policies: bool


@click.group(invoke_without_command=True)
@later_config_option
@dsn_option
@click.option("--dry-run", is_flag=True, help="Print the SQL that would run; change nothing.")
@click.option(
    "--engine", type=_ENGINES, default="auto", show_default=True, help="auto: TimescaleDB if the server offers it."
)
@click.option(
    "--rename-symbols",
    is_flag=True,
    help="Convert stored symbols to database.symbol_style; stop every daemon before.",
)
@click.option("--yes", is_flag=True, help="Do not ask before a retention deletes stored rows.")
@click.pass_context
def migrate(
    context: click.Context,
    config_file: Path | None,
    dsn: str | None,
    dry_run: bool,
    engine: str,
    rename_symbols: bool,
    yes: bool,
) -> None:
    """Migrate the database to this version's schema and apply the configured policies.

    Asks before it applies a retention by which stored rows would be deleted, and says how many.

    Without a configuration file, the policies and the style of symbols of a database that was set up before stay.
    """
    context.obj = address = Address(config_file, dsn)
    if context.invoked_subcommand is not None:
        if dry_run or rename_symbols or yes or engine != "auto":
            unfit = "--dry-run, --engine, --rename-symbols and --yes belong to `ingestd migrate` alone"
            raise click.UsageError(f"{unfit}; options of {context.invoked_subcommand} stand behind its name")
        return
    config, keep = address.config(), address.needs_no_file
    keep_style = keep and _lacks_style(config, is_needed=rename_symbols)
    choice: EngineChoice = engine  # type: ignore[assignment] # click.Choice lets only these through
    chosen: _Chosen = {"engine": choice, "rename_symbols": rename_symbols, "keep_policies": keep}
    if dry_run:
        planned = _with_database(config, lambda db: migrations.plan(db, config, **chosen), keep_style=keep_style)
        say("\n".join(filter(None, [planned, *([] if keep else _planned_deletions(config))])) or "-- nothing to do")
        return
    if not yes and not keep:
        _confirm_deletions(config)
    done = _with_database(config, lambda db: migrations.migrate(db, config, **chosen), keep_style=keep_style)
    say("\n".join(done) or "nothing to do: schema and policies are as configured")
    for finding in _with_database(config, lambda db: _of_server(db, config)):
        say(f"{finding.level.upper()} {finding.subject}: {finding.message}\n    {finding.remedy}", err=True)


@migrate.command()
@later_config_option
@dsn_option
@click.pass_obj
def status(of_group: Address, config_file: Path | None, dsn: str | None) -> None:
    """List every migration and when it was applied; those of packs too."""
    config = Address(config_file, dsn).or_of(of_group).config()
    for line in _with_database(config, lambda db: migrations.status(db, configured(config))):
        name = f"{line.pack}/{line.name}" if line.pack else line.name
        applied = "not applied" if line.applied_at is None else f"applied {line.applied_at:%Y-%m-%d %H:%M:%S}Z"
        say(f"{line.version:04d} {name:30} {applied}{line.note and f' ({line.note})'}")


@migrate.command()
@later_config_option
@dsn_option
@click.option("--to", "target", type=Integer(min=0), required=True, help="Undo every migration above this number.")
@click.option("--pack", type=click.Choice(PACKS), help="Undo migrations of this pack only; --to 0 drops its schema.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation; the data in dropped objects is lost.")
@click.pass_obj
def down(
    of_group: Address, config_file: Path | None, dsn: str | None, target: int, pack: str | None, yes: bool
) -> None:
    """Undo migrations, newest first."""
    config = Address(config_file, dsn).or_of(of_group).config()
    if not yes:
        of_pack = f" of the pack {pack}" if pack else ""
        question = f"Undo every migration{of_pack} above {target}? The data in what they created is lost."
        click.confirm(question, abort=True)
    done = _with_database(config, lambda db: migrations.down(db, target, pack=pack or ""))
    say("\n".join(done) or "nothing to undo")


@migrate.command()
@later_config_option
def roles(config_file: Path | None) -> None:  # noqa: ARG001  # taken as by the others, and not needed
    """Print the SQL that creates the roles for migrating, writing, reading and archiving.

    Run it with `psql -d DATABASE`, as a superuser.
    """
    say(read_sql("roles/roles.sql"), nl=False)


async def _of_server(db: Database, config: Config) -> list[Finding]:
    """What the server lacks for the policies that were just set."""
    return list(server.judge(await server.read(db), config))


def _lacks_style(config: Config, *, is_needed: bool) -> bool:
    """Whether the style is only the default. Raises UsageError then if it is needed."""
    is_default = config.database is not None and "symbol_style" not in config.database.model_fields_set
    if is_needed and is_default:
        raise click.UsageError(
            "--rename-symbols converts to database.symbol_style, and without a file nothing says which: name it with -c"
        )
    return is_default


def _planned_deletions(config: Config) -> list[str]:
    doomed = _with_database(config, lambda db: deletions.find(db, config))
    return [f"-- deleted by the configured retention: {deletion}" for deletion in doomed]


def _confirm_deletions(config: Config) -> None:
    if doomed := _with_database(config, lambda db: deletions.find(db, config)):
        say("By the configured retention these would be deleted:\n  " + "\n  ".join(map(str, doomed)))
        click.confirm("Delete them? (--yes does not ask; raise [retention] to keep them)", abort=True)


def _with_database(
    config: Config, work: Callable[[Database], Awaitable[Result]], *, keep_style: bool = False
) -> Result:
    """Do the work on a connection; `keep_style`: one that writes symbols in the style that the database has."""

    async def connected() -> Result:
        # Migrating a large table may take long: only connecting has a time limit, the statements have none.
        database = await DatabaseAccess(config).connect(call_timeout_s=None)
        try:
            if keep_style:
                await symbol_style.keep(database)
            return await work(database)
        finally:
            await database.close()

    return run_to_its_end(connected())
