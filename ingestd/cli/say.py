"""Prints for all commands, and makes text from outside safe for the terminal."""

from __future__ import annotations

import click

from ingestd.printable import printable, printable_json


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print one or more lines of text."""
    click.echo(printable(text, keep="\n\t"), err=err, nl=nl)


def say_json(document: bytes) -> None:
    """Print a JSON document on one line."""
    click.echo(printable_json(document.decode()))


def say_progress(text: str) -> None:
    """Print on standard error what a long command does now."""
    say(f"… {text}", err=True)


def counted(number: int, noun: str) -> str:
    """Join a number and its noun: `1 market`, `2 markets`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
