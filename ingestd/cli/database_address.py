"""The option `--dsn` of `ingestd migrate`, and its configuration where no file is given."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import click

from ingestd.cli.loading import load_for_database
from ingestd.cli.options import DEFAULT_CONFIG, found
from ingestd.config import dsn as config_dsn
from ingestd.config.models import Config
from ingestd.errors import ConfigError


def _checked(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    dsn = config_dsn.without_driver(value)
    try:
        config_dsn.read(dsn)
    except ConfigError as error:
        raise ConfigError([replace(problem, path="--dsn") for problem in error.problems]) from None
    return dsn


dsn_option = click.option(
    "--dsn",
    metavar="DSN",
    callback=_checked,
    help=f"The database, instead of the configuration's; -c is not needed then. Everybody who lists processes sees a "
    f"password in it: put such a DSN into the variable {config_dsn.VARIABLE} instead.",
)


@dataclass(frozen=True, slots=True)
class Address:
    """What says which database a command works on: options, which may stand before or after a command's name."""

    config_file: Path | None
    dsn: str | None

    def or_of(self, group: Address) -> Address:
        """This, completed by the options before the command's name."""
        return Address(self.config_file or group.config_file, self.dsn or group.dsn)

    @property
    def needs_no_file(self) -> bool:
        """Whether the defaults serve: there is no file, and the database is known without one."""
        is_known = self.dsn is not None or bool(os.environ.get(config_dsn.VARIABLE))
        return is_known and self.config_file is None and not DEFAULT_CONFIG.is_file()

    def config(self) -> Config:
        """The configuration with this database. Raises ConfigError with every mistake."""
        return load_for_database(None if self.needs_no_file else found(self.config_file), self.dsn)
