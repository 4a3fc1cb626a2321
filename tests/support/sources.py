"""The statements that documents of other systems print, each a file of `tests/sources/<document>/`, and what is right.

A fixture is a TOML file:

    names       the names of the document that it is about
    lives       where they live here
    sql         the statement, as printed; with `printed = false`, one that reads what the document only describes
    engine      both | timescaledb | postgres: where the verdict holds
    verdict     read: returns `rows`
                write: `check`, run after it, returns `rows`
                administration: the same, with search_path = public, or the one it names
                replaced: the server refuses it, or it counts something else; `replacement` runs
                instead, and returns `rows`
    sqlstate    the server refuses the statement with this, as `replaced` nearly always, and as `administration` where
                `ingestd migrate` has done already what it asks for; a table of engines where they differ, with
                `timescaledb-apache` among them. On that edition those of both engines hold
    alone       true: the statement runs outside of a transaction, and what it changes stays
    search_path of an administration that is about the pack's own tables; `public` otherwise
    before      run first: what the statement needs of those printed before it
    rows        every row, every value as text, NULL as NULL, in any order unless the statement states one;
                `{day-2}` is the date two days ago (UTC), `{week-2}` and `{month-2}` the first day of its week and of
                its month, `{week_end-2}` and `{month_end-2}` those of the next
    why         in a few words, where the verdict needs them
    tables      where a view is read: the same read on each table behind it, with which `benchmarks.reads` compares it

`seed.sql` beside them stores what they read, and `names.toml` has the names that no SQL is about: `name`, `lives`,
`verdict` (`as printed` if left out; else in a word or two) and `test`.
"""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "sources"
_SHARED = ROOT.parent / "shared" / "sources"
_DAY = re.compile(r"\{(?P<unit>day|week|month|week_end|month_end)(?P<days>[+-]\d+)?\}")
VERDICTS = ("read", "write", "administration", "replaced")


@dataclass(frozen=True)
class Document:
    """One document. `number` begins the name of its file, `options` are those of its pack."""

    name: str
    number: str
    search_path: str
    options: Mapping[str, str] | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The sections of an installation for it."""
        return {
            "database": {"dsn": "postgresql://u@h/db", "packs": [self.name], "symbol_style": "compact"},
            "packs": {} if self.options is None else {self.name: dict(self.options)},
            "feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"]}],
        }


DOCUMENTS = {
    document.name: document
    for document in (
        Document("kairos", "000", "kairos, public"),
        Document("wolfinch", "001", "public"),
        Document("fks", "002", "fks, public", {"exchange": "binance"}),
        Document("platform", "003", "platform, public", {"interval": "1h"}),
        Document("ingestion", "004", "ingestion, public", {"exchange": "binance"}),
    )
}


@dataclass(frozen=True)
class Fixture:
    """One statement; see the module's docstring. `name` is the file's."""

    document: str
    name: str
    names: Sequence[str]
    lives: str
    sql: str
    verdict: str
    engine: str = "both"
    printed: bool = True
    alone: bool = False
    rows: Sequence[Sequence[str]] = ()
    check: str = ""
    replacement: str = ""
    sqlstate: str | Mapping[str, str] = ""
    why: str = ""
    search_path: str = "public"
    before: str = ""
    tables: Sequence[str] = ()

    def holds_on(self, engine: str) -> bool:
        return self.engine in ("both", engine)

    def refused_on(self, engine: str) -> str:
        return self.sqlstate if isinstance(self.sqlstate, str) else self.sqlstate[engine]

    @property
    def path(self) -> str:
        return f"tests/sources/{self.document}/{self.name}.toml"


def fixtures(document: str) -> list[Fixture]:
    """Those of one document, in order."""
    files = [file for file in sorted((FOLDER / document).glob("*.toml")) if file.name != "names.toml"]
    return [Fixture(document, file.stem, **tomllib.loads(file.read_text(encoding="utf-8"))) for file in files]


def seed(document: str) -> str:
    return (FOLDER / document / "seed.sql").read_text(encoding="utf-8")


def expected(rows: Iterable[Sequence[str]], today: datetime.date) -> list[list[str]]:
    """The rows with their days filled in."""

    def day(said: re.Match[str]) -> str:
        at = today + datetime.timedelta(days=int(said["days"] or 0))
        week, month = at - datetime.timedelta(days=at.weekday()), at.replace(day=1)
        next_month = (month + datetime.timedelta(days=31)).replace(day=1)
        days = {
            "day": at,
            "week": week,
            "week_end": week + datetime.timedelta(days=7),
            "month": month,
            "month_end": next_month,
        }
        return days[said["unit"]].isoformat()

    return [[_DAY.sub(day, value) for value in row] for row in rows]


def as_text(value: object) -> str:
    """A value as psql prints it in UTC."""
    if value is None:
        return "NULL"
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(" ").removesuffix(":00")
    if isinstance(value, bool):
        return "t" if value else "f"
    return format(value, "f") if hasattr(value, "as_tuple") else str(value)


def table(document: str) -> str:
    """Every name of the document, where it lives, and which fixture or test shows it; for docs/schema.md."""
    lines = [
        "| name in the document | where it lives | verdict | shown by |\n",
        "|---|---|---|---|\n",
    ]
    for fixture in fixtures(document):
        names = ", ".join(f"`{name}`" for name in fixture.names)
        engine = "" if fixture.engine == "both" else f" ({fixture.engine})"
        why = f": {fixture.why}" if fixture.why else ""
        lines.append(f"| {names} | {fixture.lives} | {fixture.verdict}{engine}{why} | `{fixture.name}` |\n")
    lines += [
        f"| `{name['name']}` | {name['lives']} | {name.get('verdict', 'as printed')} | `{name['test']}` |\n"
        for name in names_without_sql(document)
    ]
    return "".join(lines)


def names_without_sql(document: str) -> list[dict[str, str]]:
    """The names that no statement is about, each with the keys that the module's docstring states."""
    file = FOLDER / document / "names.toml"
    return list(tomllib.loads(file.read_text(encoding="utf-8"))["name"]) if file.exists() else []


def text_of(document: Document) -> str:
    """The document; skips the test where the documents are not."""
    found = sorted(_SHARED.glob(f"{document.number}_*.txt"))
    if not found:
        pytest.skip("the documents are not here (../shared/sources)")
    return found[0].read_text(encoding="utf-8")


def printed(document: Document) -> list[str]:
    """Every SQL statement that the document prints, normalised; skips the test where the documents are not."""
    text = text_of(document)
    blocks = re.findall(r"^[ \t]*```sql\n(.*?)^[ \t]*```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`((?:SELECT|DELETE|INSERT|UPDATE) [^`]*;)`", text)
    return [statement for block in [*blocks, *inline] for statement in statements(block)]


_NAMES = (
    r"CREATE (?:TABLE|MATERIALIZED VIEW) ([\w.]+)",
    r"INDEX (?:CONCURRENTLY )?(idx_\w+)",
    r"create_hypertable\('(\w+)'",
    r"add_\w+_policy\('(\w+)'",
    r"timescaledb_information\.(\w+)",
    r"\b([a-z_]+:(?:[a-z]+:)?\{\w+\}(?::\{\w+\})*)",  # keys and channels of Redis
    r"\b(wolfinch\.\w+\.\w+)",  # topics
    r"^\*\*(\w+)\*\* - ",  # measurements
    r"`(\w*(?:upsert|fetch|recent|latest)_\w+)`",
    r"\b(pool_\w+|max_overflow)=",
    r"^def (\w+)\(",
    r"\b(\d{3}_\w+\.sql|init_\w+\.sql)",
)


def named(document: Document) -> set[str]:
    """What the document names, by the forms in which documents write names; skips the test where they are not."""
    return {name for form in _NAMES for name in re.findall(form, text_of(document), re.MULTILINE)}


def statements(sql: str) -> list[str]:
    """The statements of a script without comments and superfluous blanks. A semicolon in a text would mislead it."""
    bare = re.sub(r"--[^\n]*", "", sql)
    return [normal for part in bare.split(";") if (normal := " ".join(part.split()))]


def shown(value: object) -> str:
    """For messages."""
    return json.dumps(value, ensure_ascii=False, default=str)
