"""Numbers with their text."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.venues.exact import ExactFloat, ExactReaders, decimal_text, decode_json, sent_text


@pytest.mark.parametrize("text", ["0.00100000", "34869.0", "1e-8", "1E5", "-0.10", "123456789.123456789123456789"])
def test_a_json_number_keeps_its_text(text: str) -> None:
    value = decode_json(f'{{"price": {text}}}')["price"]

    assert decimal_text(value) == text
    assert value == float(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**18), max_value=10**18).map("{:f}".format))
def test_any_decimal_text_survives(text: str) -> None:
    assert decimal_text(decode_json(f"[{text}]")[0]) == text
    assert decimal_text(ExactFloat(text)) == text


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_everything_else_decodes_as_json_does(value: object) -> None:
    assert decode_json(json.dumps(value)) == value


@pytest.mark.parametrize("text", ["{", '{"a": 1', "[NaN]", "nonsense", '{"a": 1} tail'])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode_json(text)


def test_it_is_a_float_for_all_the_library_does_with_it() -> None:
    price = ExactFloat("0.00100000")

    assert -price == -0.001
    assert sorted([ExactFloat("2.0"), price]) == [0.001, 2.0]
    assert copy.deepcopy(price).text == "0.00100000"
    assert str(price) == "0.00100000"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("", None),
        ("1.50", "1.50"),
        (7, "7"),
        (True, None),
        (0.00000001, "0.00000001"),
        (float("nan"), None),
        (float("inf"), None),
        (ExactFloat("nan"), None),
        (1e22, "10000000000000000000000"),
        ([], None),
    ],
)
def test_decimal_text(value: object, text: str | None) -> None:
    assert decimal_text(value) == text


class Readers(ExactReaders):
    """With ccxt's own helper, as the tapped exchange has it."""

    @staticmethod
    def get_object_value_from_key_list(source: dict[str, object], keys: list[str]) -> object:
        return next((source[key] for key in keys if source.get(key) not in (None, "")), None)


def test_readers_see_the_text() -> None:
    source = {"a": ExactFloat("1.50"), "b": "X", "c": 2, "d": 2.5, "e": "", "f": None, "g": True}

    assert [Readers.safe_string(source, key) for key in source] == ["1.50", "X", "2", "2.5", None, None, None]
    assert Readers.safe_string(source, "absent", "default") == "default"
    assert Readers.safe_string([ExactFloat("1.0")], 0) == "1.0"
    assert Readers.safe_string_2(source, "e", "a") == "1.50"
    assert Readers.safe_string_n(source, ["e", "f", "a"]) == "1.50"
    assert Readers.safe_string_lower(source, "b") == "x"
    assert Readers.safe_string_upper_2(source, "f", "b") == "X"
    assert Readers.safe_string_lower_n(source, ["e"], "default") == "default"
    assert Readers.safe_float({"p": "0.10"}, "p").text == "0.10"
    assert Readers.safe_float({"p": "x"}, "p", 3) == 3


def test_a_lone_level_keeps_its_text_when_levels_are_summed() -> None:
    levels: list[list[float]] = [[ExactFloat("1.0"), ExactFloat("0.500")], [2.0, 1.0], [2.0, 2.0], [3.0, 0.0]]

    summed = Readers.aggregate(levels)

    assert summed == [[1.0, 0.5], [2.0, 3.0]]
    assert decimal_text(summed[0][1]) == "0.500"


@pytest.mark.parametrize(
    ("text", "sent", "expected"),
    [
        ("0.201", ["7", "-0.2010000000", 5], "0.2010000000"),
        ("0.201", ["0.2010", "0.201"], "0.201"),  # it was sent so
        ("0.201", ["0.2010", "-0.20100"], "0.201"),  # two fields are that number: which of them is not known
        ("5.6e-7", [ExactFloat("0.00000056")], "0.00000056"),
        ("108", [-108, None, True, {}, [108]], "108"),
        ("nonsense", ["1", "nonsense "], "nonsense"),
        ("nan", ["nan "], "nan"),
        ("1", ["٣", "1_0", " 1", "inf", "1e400"], "1"),
    ],
)
def test_the_digits_that_were_sent(text: str, sent: list[object], expected: str) -> None:
    assert sent_text(text, sent) == expected


@pytest.mark.parametrize(("text", "other"), [("-12000", "12000"), ("0.50", "-0.50"), ("-5.6e-7", "5.6e-7")])
def test_a_change_of_sign_keeps_the_digits(text: str, other: str) -> None:
    value = decode_json(f"[{text}]")[0] if "." in text else ExactFloat(text)

    assert decimal_text(-value) == other
    assert decimal_text(abs(value)) == text.lstrip("-")
    assert -value == -float(text)
