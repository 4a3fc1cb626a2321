"""Compares a database's schema with what the migrations make. What others have added beside it is theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ingestd.storage.candles import LEVELS
from ingestd.storage.doctor.description import Column, Description, Function, Relation
from ingestd.storage.doctor.findings import MIGRATE, Finding, Level
from ingestd.storage.session_settings import quoted


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of part that a table has by name. `add` and `drop` are SQL, with {table}, {name} and {definition}."""

    word: str
    level: Level
    add: str
    drop: str


_CONSTRAINTS = _Kind(
    "constraint",
    "error",
    "ALTER TABLE {table} ADD CONSTRAINT {name} {definition};",
    "ALTER TABLE {table} DROP CONSTRAINT {name};",
)
_INDEXES = _Kind("index", "warning", "{definition};", "DROP INDEX {schema}.{name};")
_TRIGGERS = _Kind("trigger", "error", "{definition};", "DROP TRIGGER {name} ON {table};")
_COLUMNSTORE = _Kind("setting", "warning", "ALTER TABLE {table} SET ({definition});", "")

_CANDLES = tuple(level.relation for level in LEVELS)


def compare(expected: Description, present: Description) -> Iterator[Finding]:
    """Everything that the schema lacks, or has in another form, in an order in which the remedies can be run.

    Tables come first, then functions, whose bodies may read them, then triggers and foreign keys, and what is computed
    from all these.
    """
    tables = {name: relation for name, relation in expected.relations.items() if not relation.create}
    for name, relation in tables.items():
        yield from _compare_relation(name, relation, present.relations.get(name))
    for name in sorted(expected.functions, key=lambda name: (".option_" not in name, _is_aggregate(expected, name))):
        yield from _compare_function(name, expected.functions[name], present.functions.get(name))
    for name, relation in tables.items():
        found = present.relations.get(name)
        yield from _compare_parts(name, _CONSTRAINTS, _keys(relation), {} if found is None else _keys(found))
        if found is not None:
            yield from _compare_parts(name, _TRIGGERS, relation.triggers, found.triggers)
    for name in _in_order(expected.relations):
        yield from _compare_relation(name, expected.relations[name], present.relations.get(name))
    for name, definition in expected.triggers.items():
        if name not in present.triggers:
            yield Finding("error", name, "the trigger is missing", f"{definition};")


def _is_aggregate(expected: Description, name: str) -> bool:
    return expected.functions[name].create.startswith("CREATE AGGREGATE")


def _keys(relation: Relation) -> dict[str, str]:
    return {name: text for name, text in relation.constraints.items() if text.startswith("FOREIGN KEY")}


def _own(relation: Relation) -> dict[str, str]:
    return {name: text for name, text in relation.constraints.items() if not text.startswith("FOREIGN KEY")}


def _in_order(relations: Mapping[str, Relation]) -> list[str]:
    """Views and aggregates, each behind what it reads: candles are made of shorter ones."""
    computed = {name: relation for name, relation in relations.items() if relation.create}

    def place(name: str) -> tuple[int, int, str]:
        own = name.removeprefix("public.")
        of_candles = _CANDLES.index(own) if own in _CANDLES else len(_CANDLES)
        reads = [other for other in computed if other != name and other in computed[name].create]
        return of_candles, 1 + max((place(other)[1] for other in reads), default=0), name

    return sorted(computed, key=place)


def identifier(name: str) -> str:
    """A relation's name with its schema, as an SQL identifier."""
    return ".".join(part if part == part.lower() else quoted(part) for part in name.split(".", 1))


def _compare_relation(name: str, expected: Relation, found: Relation | None) -> Iterator[Finding]:
    if found is None:
        yield Finding("error", name, f"the {expected.kind} is missing", "\n".join(_creation(name, expected)))
        return
    if found.kind != expected.kind:
        yield _of_another_kind(name, expected, found)
        return
    if expected.create:
        lacking = [column for column in expected.columns if column not in found.columns]
        if lacking:
            yield Finding("error", name, f"it lacks {', '.join(lacking)}", _anew(name, expected, found))
        else:
            yield from _compare_parts(name, _TRIGGERS, expected.triggers, found.triggers)
        return
    table = identifier(name)
    for column, wanted in expected.columns.items():
        yield from _compare_column(f"{name}.{column}", table, _column(column), wanted, found.columns.get(column))
    for column, own in found.columns.items():
        if column not in expected.columns and own.required and not own.default:
            message = "a column of yours that must have a value, which the daemon does not give: every row is refused"
            remedy = f"ALTER TABLE {table} ALTER COLUMN {_column(column)} DROP NOT NULL;"
            yield Finding("error", f"{name}.{column}", message, remedy)
    yield from _compare_parts(name, _CONSTRAINTS, _own(expected), _own(found))
    yield from _compare_parts(name, _INDEXES, expected.indexes, found.indexes)
    yield from _compare_parts(name, _COLUMNSTORE, expected.columnstore, found.columnstore)


def _anew(name: str, expected: Relation, found: Relation) -> str:
    """The statements that make a view or an aggregate again. Columns can only be added behind those that it has."""
    if expected.kind == "view" and list(expected.columns)[: len(found.columns)] == list(found.columns):
        return expected.create
    drop = f"DROP {'MATERIALIZED VIEW' if expected.kind == 'aggregate' else 'VIEW'} {identifier(name)};"
    return "\n".join((drop, *_creation(name, expected)))


def _compare_column(subject: str, table: str, column: str, wanted: Column, found: Column | None) -> Iterator[Finding]:
    if found is None:
        default = f" {wanted.default}" if wanted.default else ""
        remedy = f"ALTER TABLE {table} ADD COLUMN {column} {wanted.type}{default};"
        if wanted.required:
            remedy += f"\n-- fill it, from a backup for example; then\nALTER TABLE {table} ALTER COLUMN {column}"
            remedy += " SET NOT NULL;"
        yield Finding("error", subject, "the column is missing", remedy)
        return
    change = f"ALTER TABLE {table} ALTER COLUMN {column}"
    if found.type != wanted.type:
        message = f"its type is {found.type} instead of {wanted.type}"
        yield Finding("error", subject, message, f"{change} TYPE {wanted.type};")
    if found.required != wanted.required:
        word, verb = ("NOT NULL is missing", "SET") if wanted.required else ("it must have a value", "DROP")
        yield Finding("warning" if wanted.required else "error", subject, word, f"{change} {verb} NOT NULL;")
    if found.default != wanted.default:
        message = f"its default is {found.default or 'missing'} instead of {wanted.default or 'none'}"
        remedy = f"{change} DROP DEFAULT;"
        if wanted.default.startswith("GENERATED"):
            remedy = f"{change} ADD {wanted.default};"
        elif wanted.default:
            remedy = f"{change} SET {wanted.default};"
        yield Finding("error" if wanted.default else "warning", subject, message, remedy)


def _compare_parts(name: str, kind: _Kind, expected: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Finding]:
    for part, definition in expected.items():
        if found.get(part) == definition:
            continue
        names = {"table": identifier(name), "schema": name.split(".", 1)[0], "name": _column(part)}
        add = kind.add.format(definition=definition, **names)
        if part not in found:
            level: Level = "error" if " UNIQUE " in definition else kind.level
            yield Finding(level, name, f"the {kind.word} {part} is missing", add)
        else:
            message = f"the {kind.word} {part} is {found[part]} instead of {definition}"
            yield Finding(kind.level, name, message, f"{kind.drop.format(**names)}\n{add}".lstrip())


def _compare_function(name: str, expected: Function, found: Function | None) -> Iterator[Finding]:
    if found is None or (expected.body and found.body != expected.body):
        word = "missing" if found is None else "not the one of the migrations"
        remedy = f"{expected.create.rstrip()};"
        yield Finding(
            "error", name, f"the function is {word}", f"{remedy}\n{MIGRATE}" if ".option_" in name else remedy
        )


def _of_another_kind(name: str, expected: Relation, found: Relation) -> Finding:
    message = f"it is a {found.kind} instead of a {expected.kind}"
    if (expected.kind, found.kind) == ("hypertable", "table"):
        return Finding("error", name, message, f"{_hypertable(name, expected)}\n-- then\n{MIGRATE}")
    rename = f"ALTER {found.kind.upper()} {identifier(name)} RENAME TO …;"
    return Finding("error", name, message, "\n".join((rename, *_creation(name, expected))))


def _creation(name: str, relation: Relation) -> Iterator[str]:
    """The statements that make the relation, empty."""
    if relation.create:
        yield relation.create
    else:
        columns = [
            " ".join(filter(None, (_column(column), kind.type, kind.default, "NOT NULL" if kind.required else "")))
            for column, kind in relation.columns.items()
        ]
        yield f"CREATE TABLE {identifier(name)} ({', '.join(columns)});"
    if relation.kind == "hypertable":
        yield _hypertable(name, relation)
    for part, kind in (
        (_own(relation), _CONSTRAINTS),
        (relation.indexes, _INDEXES),
        (relation.triggers, _TRIGGERS),
        (relation.columnstore, _COLUMNSTORE),
    ):
        for own, definition in part.items():
            yield kind.add.format(table=identifier(name), name=_column(own), definition=definition)
    if relation.kind in ("hypertable", "aggregate") and name.startswith("public."):
        yield f"-- and once nothing is missing any more, for its policies\n{MIGRATE}"


def _hypertable(name: str, relation: Relation) -> str:
    chunks = f", INTERVAL '{relation.chunks}'" if relation.chunks else ""
    return (
        f"SELECT create_hypertable('{identifier(name)}', by_range('time'{chunks}), create_default_indexes => false,"
        " migrate_data => true);"
    )


def _column(name: str) -> str:
    return name if name.replace("_", "a").isalnum() and name == name.lower() else quoted(name)
