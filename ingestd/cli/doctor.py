"""`ingestd doctor`: finds what is wrong with the database, and prints the SQL or the command that mends it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
import orjson

from ingestd.cli.loading import load_for_database
from ingestd.cli.options import config_option, json_option
from ingestd.cli.say import counted, say, say_json
from ingestd.cli.signals import run_to_its_end
from ingestd.config.models import Config
from ingestd.config.secrets import redact
from ingestd.config.values import parse_size_bytes
from ingestd.ops.logs import redact_value
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.doctor.checks import Report, examine

_CALL_TIMEOUT_S = 300.0  # thousands of chunks are measured in one query
_LEVELS = ("error", "warning", "note")


class _Size(click.ParamType):  # type: ignore[type-arg] # not generic at run time in every version
    """A size such as 500GiB, in bytes."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(parse_size_bytes(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@config_option
@click.option("--disk-free", type=_Size(), help="What the database server's disk has left, such as 500GiB.")
@json_option
def doctor(config_file: Path, disk_free: int | None, as_json: bool) -> None:
    """Examine the database, and print what is wrong and what mends it.

    Looks at the server, the schema, rights, clock, policies, jobs, indexes, chunks, compression, late rows and the
    growth of the disk. Changes nothing. Prints each finding with the SQL or the command that mends it. If there is an
    error among them, exits with 1; warnings and notes do not change the exit code.
    """
    report = run_to_its_end(_examined(load_for_database(config_file), disk_free))
    if as_json:
        say_json(to_json(report))
    else:
        say(to_text(report), nl=False)
        say(f"ingestd: {verdict(report)}", err=True)
    if report.count("error"):
        raise SystemExit(1)


async def _examined(config: Config, disk_free: int | None) -> Report:
    database = await DatabaseAccess(config).connect(call_timeout_s=_CALL_TIMEOUT_S)
    try:
        return await examine(database, config, free_bytes=disk_free)
    finally:
        await database.close()


def to_text(report: Report) -> str:
    """Each finding on a line, the worst first, its remedy indented below it."""
    lines = []
    for level in _LEVELS:
        for check, findings in report.findings.items():
            for finding in findings:
                if finding.level == level:
                    lines.append(f"{level.upper()} {check}: {finding.subject}: {redact(finding.message)}")
                    lines += [f"    {line}" for line in finding.remedy.splitlines()]
    return "".join(f"{line}\n" for line in lines)


def to_json(report: Report) -> bytes:
    """The report as one object."""
    findings = [{"check": check, **asdict(found)} for check, some in report.findings.items() for found in some]
    return orjson.dumps(
        redact_value(
            {
                "ok": not report.count("error"),
                "database": report.target,
                "engine": None if report.engine is None else report.engine.value,
                "checks": list(report.findings),
                "left_out": list(report.left_out),
                "findings": findings,
            }
        )
    )


def verdict(report: Report) -> str:
    """The last line: what was found, by how many checks, where."""
    counts = [counted(count, level) for level in _LEVELS if (count := report.count(level))]
    where = report.target if report.engine is None else f"{report.target} ({report.engine.value})"
    parts = [", ".join(counts) or "nothing is wrong", f"{counted(len(report.findings), 'check')} of {where}"]
    parts += [f"left out until that is mended: {', '.join(report.left_out)}"] if report.left_out else []
    return "; ".join(parts)
