"""The comparison of a schema with its description. That the remedies mend is shown on servers (tests/integration)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from ingestd.storage.doctor.description import Column, Description, Function, Relation
from ingestd.storage.doctor.drift import compare, identifier

TRADES = Relation(
    "table",
    {"price": Column("numeric", required=True), "kind": Column("text")},
    constraints={"trades_key": "UNIQUE (price)"},
    indexes={"by_kind": "CREATE INDEX by_kind ON public.trades USING btree (kind)"},
    triggers={"mark": "CREATE TRIGGER mark AFTER INSERT ON public.trades EXECUTE FUNCTION ingestd_mark()"},
    columnstore={"columnstore": "timescaledb.segmentby = 'kind'"},
)
HOURS = Relation("view", {"bucket": Column("timestamptz")}, create="CREATE OR REPLACE VIEW public.hours AS SELECT 1")
SCHEMA = Description(15, {"public.trades": TRADES, "public.hours": HOURS}, {"public.f()": Function("CREATE F", "ab")})


@dataclass
class Case:
    present: Relation
    level: str
    message: str
    remedy: str


def test_the_same_schema_has_no_finding() -> None:
    assert list(compare(SCHEMA, SCHEMA)) == []


def test_what_others_added_is_theirs() -> None:
    more = replace(
        TRADES,
        columns={
            **TRADES.columns,
            "mine": Column("text"),
            "at": Column("date", required=True, default="DEFAULT now()"),
        },
        indexes={**TRADES.indexes, "mine": "CREATE INDEX mine ON public.trades USING btree (price)"},
    )
    relations = {**SCHEMA.relations, "public.trades": more, "public.mine": HOURS}
    assert list(compare(SCHEMA, replace(SCHEMA, relations=relations))) == []


@pytest.mark.parametrize(
    "case",
    [
        Case(
            replace(TRADES, columns={"price": TRADES.columns["price"]}),
            "error",
            "the column is missing",
            "ALTER TABLE public.trades ADD COLUMN kind text;",
        ),
        Case(
            replace(TRADES, columns={**TRADES.columns, "kind": Column("integer")}),
            "error",
            "its type is integer instead of text",
            "ALTER TABLE public.trades ALTER COLUMN kind TYPE text;",
        ),
        Case(
            replace(TRADES, columns={**TRADES.columns, "price": Column("numeric")}),
            "warning",
            "NOT NULL is missing",
            "ALTER TABLE public.trades ALTER COLUMN price SET NOT NULL;",
        ),
        Case(
            replace(TRADES, columns={**TRADES.columns, "kind": Column("text", required=True)}),
            "error",
            "it must have a value",
            "ALTER TABLE public.trades ALTER COLUMN kind DROP NOT NULL;",
        ),
        Case(
            replace(TRADES, columns={**TRADES.columns, "kind": Column("text", default="DEFAULT 'x'")}),
            "warning",
            "its default is DEFAULT 'x' instead of none",
            "ALTER TABLE public.trades ALTER COLUMN kind DROP DEFAULT;",
        ),
        Case(
            replace(TRADES, columns={**TRADES.columns, "mine": Column("text", required=True)}),
            "error",
            "every row is refused",
            "ALTER TABLE public.trades ALTER COLUMN mine DROP NOT NULL;",
        ),
        Case(
            replace(TRADES, constraints={}),
            "error",
            "the constraint trades_key is missing",
            "ALTER TABLE public.trades ADD CONSTRAINT trades_key UNIQUE (price);",
        ),
        Case(replace(TRADES, indexes={}), "warning", "index by_kind", f"{TRADES.indexes['by_kind']};"),
        Case(
            replace(TRADES, triggers={"mark": f"{TRADES.triggers['mark']} (disabled)"}),
            "error",
            "(disabled) instead of",
            f"DROP TRIGGER mark ON public.trades;\n{TRADES.triggers['mark']};",
        ),
        Case(
            replace(TRADES, columnstore={}),
            "warning",
            "the setting columnstore is missing",
            "ALTER TABLE public.trades SET (timescaledb.segmentby = 'kind');",
        ),
    ],
)
def test_each_difference_is_found_with_its_remedy(case: Case) -> None:
    present = replace(SCHEMA, relations={**SCHEMA.relations, "public.trades": case.present})
    (found,) = compare(SCHEMA, present)
    assert found.level == case.level
    assert case.message in found.message
    assert found.remedy == case.remedy


def test_a_column_that_must_have_a_value_comes_back_in_two_steps() -> None:
    present = replace(
        SCHEMA, relations={**SCHEMA.relations, "public.trades": replace(TRADES, columns={"kind": Column("text")})}
    )
    (found,) = compare(SCHEMA, present)
    first, *rest = found.remedy.splitlines()
    assert first == "ALTER TABLE public.trades ADD COLUMN price numeric;"
    assert rest[-1] == "ALTER TABLE public.trades ALTER COLUMN price SET NOT NULL;"


def test_a_missing_table_comes_back_with_all_its_parts() -> None:
    lacking = replace(SCHEMA, relations={"public.hours": HOURS})
    (found,) = compare(SCHEMA, lacking)
    assert (found.level, found.subject) == ("error", "public.trades")
    for part in ("CREATE TABLE public.trades (price numeric NOT NULL, kind text);", *TRADES.indexes.values()):
        assert part in found.remedy


def test_a_view_without_a_column_is_made_again() -> None:
    present = replace(SCHEMA, relations={**SCHEMA.relations, "public.hours": replace(HOURS, columns={})})
    (found,) = compare(SCHEMA, present)
    assert (found.message, found.remedy) == ("it lacks bucket", HOURS.create)


def test_a_view_with_other_columns_is_dropped_first() -> None:
    own = replace(HOURS, columns={"mine": Column("text")})
    (found,) = compare(SCHEMA, replace(SCHEMA, relations={**SCHEMA.relations, "public.hours": own}))
    assert found.remedy == f"DROP VIEW public.hours;\n{HOURS.create}"


def test_remedies_come_in_an_order_in_which_they_run() -> None:
    """A key after the table that it names, a view after the one that it reads."""
    users = Relation("table", {"id": Column("integer")}, {"users_pkey": "PRIMARY KEY (id)"})
    keys = Relation("table", {"of": Column("integer")}, {"of_fkey": "FOREIGN KEY (of) REFERENCES p.users(id)"})
    first = Relation("view", {"id": Column("integer")}, create="CREATE VIEW p.a AS SELECT id FROM p.b")
    second = Relation("view", {"id": Column("integer")}, create="CREATE VIEW p.b AS SELECT id FROM p.users")
    trigger = "CREATE TRIGGER kept AFTER INSERT ON public.orders EXECUTE FUNCTION p.keep()"
    made = {"p.a": first, "p.b": second, "p.keys": keys, "p.users": users}
    expected = Description(4, made, {"p.keep()": Function("CREATE FUNCTION p.keep()")}, {"kept": trigger})
    found = [finding.remedy.splitlines()[0] for finding in compare(expected, Description(4, {}, {}))]
    assert found == [
        "CREATE TABLE p.keys (of integer);",
        "CREATE TABLE p.users (id integer);",
        "CREATE FUNCTION p.keep();",
        "ALTER TABLE p.keys ADD CONSTRAINT of_fkey FOREIGN KEY (of) REFERENCES p.users(id);",
        "CREATE VIEW p.b AS SELECT id FROM p.users",
        "CREATE VIEW p.a AS SELECT id FROM p.b",
        f"{trigger};",
    ]


@pytest.mark.parametrize(
    ("functions", "word"), [({}, "missing"), ({"public.f()": Function("other", "cd")}, "not the one")]
)
def test_a_function(functions: dict[str, Function], word: str) -> None:
    (found,) = compare(SCHEMA, replace(SCHEMA, functions=functions))
    assert word in found.message
    assert found.remedy == "CREATE F;"


def test_a_table_that_should_have_chunks() -> None:
    expected = Description(15, {"public.trades": replace(TRADES, kind="hypertable")}, {})
    (found,) = compare(expected, Description(15, {"public.trades": TRADES}, {}))
    assert found.message == "it is a table instead of a hypertable"
    assert found.remedy.startswith("SELECT create_hypertable('public.trades', by_range('time')")


@pytest.mark.parametrize(
    ("name", "text"), [("public.candles_1m", "public.candles_1m"), ("public.candles_1M", 'public."candles_1M"')]
)
def test_names_keep_their_capitals(name: str, text: str) -> None:
    assert identifier(name) == text
