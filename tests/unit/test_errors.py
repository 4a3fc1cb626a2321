"""What a writer does after each error PostgreSQL can answer with."""

from __future__ import annotations

import re

import pytest

from ingestd.errors import (
    ConfigError,
    ConnectionLost,
    DatabaseError,
    Problem,
    Reaction,
    copy_line,
    is_known,
    may_be_of_a_row,
    reaction_to,
)

# Every code of PostgreSQL 18's errcodes.txt.
SQLSTATES = """
    00000
    01000 01003 01004 01006 01007 01008 0100C 01P01
    02000 02001
    03000
    08000 08001 08003 08004 08006 08007 08P01
    09000
    0A000
    0B000
    0F000 0F001
    0L000 0LP01
    0P000
    0Z000 0Z002
    10608
    20000
    21000
    22000 22001 22002 22003 22004 22005 22007 22008 22009 2200B 2200C 2200D 2200F 2200G 2200H 2200L 2200M 2200N
    2200S 2200T 22010 22011 22012 22013 22014 22015 22016 22018 22019 2201B 2201E 2201F 2201G 2201W 2201X 22021
    22022 22023 22024 22025 22026 22027 2202E 2202G 2202H 22030 22031 22032 22033 22034 22035 22036 22037 22038
    22039 2203A 2203B 2203C 2203D 2203E 2203F 2203G 22P01 22P02 22P03 22P04 22P05 22P06
    23000 23001 23502 23503 23505 23514 23P01
    24000
    25000 25001 25002 25003 25004 25005 25006 25007 25008 25P01 25P02 25P03 25P04
    26000
    27000
    28000 28P01
    2B000 2BP01
    2D000
    2F000 2F002 2F003 2F004 2F005
    34000
    38000 38001 38002 38003 38004
    39000 39001 39004 39P01 39P02 39P03
    3B000 3B001
    3D000
    3F000
    40000 40001 40002 40003 40P01
    42000 42501 42601 42602 42611 42622 42701 42702 42703 42704 42710 42712 42723 42725 42803 42804 42809 42830
    42846 42883 428C9 42939 42P01 42P02 42P03 42P04 42P05 42P06 42P07 42P08 42P09 42P10 42P11 42P12 42P13 42P14
    42P15 42P16 42P17 42P18 42P19 42P20 42P21 42P22
    44000
    53000 53100 53200 53300 53400
    54000 54001 54011 54023
    55000 55006 55P02 55P03 55P04
    57000 57014 57P01 57P02 57P03 57P04 57P05
    58000 58030 58P01 58P02 58P03
    F0000 F0001
    HV000 HV001 HV002 HV004 HV005 HV006 HV007 HV008 HV009 HV00A HV00B HV00C HV00D HV00J HV00K HV00L HV00M HV00N
    HV00P HV00Q HV00R HV010 HV014 HV021 HV024 HV090 HV091
    P0000 P0001 P0002 P0003 P0004
    XX000 XX001 XX002
""".split()  # noqa: SIM905  # 262 quoted strings are no easier to read

SINGLE = {
    "23505": Reaction.DEDUPLICATE,  # unique_violation
    "22P03": Reaction.RECONNECT,  # invalid_binary_representation: a column changed its type under us
    "42703": Reaction.RECONNECT,  # undefined_column
    "42P01": Reaction.RECONNECT,  # undefined_table
    "42804": Reaction.RECONNECT,  # datatype_mismatch
    "0A000": Reaction.RECONNECT,  # feature_not_supported: "cached plan must not change result type"
    "42501": Reaction.PAUSE,  # insufficient_privilege
    "3D000": Reaction.PAUSE,  # invalid_catalog_name: the database does not exist
}
WHOLE_CLASS = {
    "22": Reaction.REJECT_ROW,  # data exceptions
    "54": Reaction.REJECT_ROW,  # program limits: an index row that is too large
    "21": Reaction.REJECT_AMONG_OTHERS,  # cardinality violation
    "23": Reaction.REJECT_AMONG_OTHERS,  # integrity constraints
    "44": Reaction.REJECT_AMONG_OTHERS,  # WITH CHECK OPTION
    "P0": Reaction.REJECT_AMONG_OTHERS,  # a trigger's RAISE
    "28": Reaction.PAUSE,
}
TRANSIENT = re.compile(r"08...|40...|53...|58...|XX...|55P03|57014|57P..|25006")


def expected(sqlstate: str) -> Reaction:
    return SINGLE.get(sqlstate, WHOLE_CLASS.get(sqlstate[:2], Reaction.RETRY))


def answered(sqlstate: str) -> DatabaseError:
    return DatabaseError("no", sqlstate=sqlstate)


def test_every_sqlstate_has_the_reaction_that_loses_nothing() -> None:
    assert {code: reaction_to(answered(code)) for code in SQLSTATES} == {code: expected(code) for code in SQLSTATES}


def test_only_foreseen_sqlstates_are_known() -> None:
    foreseen = {
        code for code in SQLSTATES if code in SINGLE or code[:2] in WHOLE_CLASS or TRANSIENT.fullmatch(code) is not None
    }
    assert {code for code in SQLSTATES if is_known(answered(code))} == foreseen


def test_no_row_is_given_up_for_an_error_that_is_not_about_its_values() -> None:
    reasons = (Reaction.REJECT_ROW, Reaction.REJECT_AMONG_OTHERS)
    given_up = {code for code in SQLSTATES if reaction_to(answered(code)) in reasons}
    assert {code[:2] for code in given_up} == {"21", "22", "23", "44", "54", "P0"}
    assert "23505" not in given_up
    assert "22P03" not in given_up


def test_what_the_server_or_the_schema_lacks_is_never_of_a_row() -> None:
    never = {code for code in SQLSTATES if code[:2] in {"08", "25", "28", "3D", "40", "42", "53", "55", "57", "58"}}
    assert {code for code in SQLSTATES if not may_be_of_a_row(answered(code))} == never
    assert not may_be_of_a_row(ConnectionLost("gone"))


@pytest.mark.parametrize("sqlstate", ["", "99999", "P0ABC", "ZZ000"])
def test_a_code_nobody_knows_is_retried_with_an_alarm(sqlstate: str) -> None:
    assert reaction_to(answered(sqlstate)) is Reaction.RETRY
    assert not is_known(answered(sqlstate))


@pytest.mark.parametrize("error", [ConnectionLost("gone"), TimeoutError(), ConnectionResetError(), OSError(28, "full")])
def test_a_lost_connection_is_retried_without_an_alarm(error: Exception) -> None:
    assert reaction_to(error) is Reaction.RETRY
    assert is_known(error)


def test_a_bug_is_retried_with_an_alarm() -> None:
    assert reaction_to(ZeroDivisionError()) is Reaction.RETRY
    assert not is_known(ZeroDivisionError())


@pytest.mark.parametrize(
    ("context", "line"),
    [
        ('COPY trades, line 777, column price: "NaNN"', 777),
        ('COPY trades, line 777: "2026-01-06\t1"', 777),
        ("COPY trades, line 1", None),  # not quoted: it may only be the last row read
        ('COPY trades, line 777\nwhile "x"', None),
        ('SQL function "f" statement 1\nCOPY market_ticks, line 12, column time: "x"', 12),
        ("", None),
        ("COPY trades", None),
        ('COPY trades, column x: "COPY y, line 5"', None),
        ('INSERT 5\nwhile saying "COPY trades, line 5"', None),
    ],
)
def test_the_row_is_read_from_the_servers_context(context: str, line: int | None) -> None:
    assert copy_line(context) == line


def test_a_problem_says_where_what_found_and_what_instead() -> None:
    problem = Problem("feeds[0].channels[1]", "must be one of trades", "'trade'", 'did you mean "trades"?')
    assert str(problem) == "feeds[0].channels[1]: must be one of trades (found 'trade'); did you mean \"trades\"?"


def test_a_configuration_error_is_one_line_a_problem() -> None:
    error = ConfigError([Problem("a.b", "is missing"), Problem("c", "unknown key")])
    assert str(error).splitlines() == ["a.b: is missing", "c: unknown key"]
