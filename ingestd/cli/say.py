"""How every command prints: what came from outside cannot steer the terminal."""

from __future__ import annotations

import click

from ingestd.printable import printable, printable_json


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text, of one line or several."""
    click.echo(printable(text, keep="\n\t"), err=err, nl=nl)


def say_json(document: bytes) -> None:
    """Print a JSON document, as one line."""
    click.echo(printable_json(document.decode()))
