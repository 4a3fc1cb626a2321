"""Floats that keep the text in which the exchange sent them.

ccxt would turn `0.00100000` into a float, and the database would store `0.001`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec


class ExactFloat(float):
    """A float, so that ccxt can compare it, with the decimal text that it was read from, so that we store that text.

    A change of sign keeps the text; any other arithmetic returns a plain float, because a computed value has no text.
    """

    __slots__ = ("text",)

    text: str

    def __new__(cls, value: str | int | float) -> ExactFloat:
        if type(value) is cls:
            return value
        self = super().__new__(cls, value)
        self.text = value if isinstance(value, str) else _plain_text(value)
        return self

    def __str__(self) -> str:
        return self.text

    def __neg__(self) -> ExactFloat:
        text = self.text
        return ExactFloat(text[1:] if text[:1] == "-" else f"-{text}")

    def __abs__(self) -> ExactFloat:
        return -self if self.text[:1] == "-" else self


def decimal_text(value: object) -> str | None:
    """The decimal text of a price or size, as sent if known; None if there is no number. A text is not checked."""
    if isinstance(value, float):
        if value - value != 0:  # not a number, or infinite
            return None
        return value.text if isinstance(value, ExactFloat) else _plain_text(value)
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def multiplied(number: object, factor: object) -> ExactFloat | None:
    """The exact product, which a float would round; None if either value is not a number."""
    first, second = decimal_text(number), decimal_text(factor)
    if first is None or second is None or not _number(first) or not _number(second):
        return None
    return ExactFloat(f"{Decimal(first) * Decimal(second):f}")


def sent_text(text: str, sent: Iterable[object]) -> str:
    """The digits as sent of a number that ccxt has reformatted. `text`: ccxt's number. `sent`: the message's fields.

    ccxt drops zeros when it drops a sign: `-0.2010000000` becomes `0.201`. If no field is the same number, or two
    fields write it differently, the result is `text`.
    """
    fields = [field.text if type(field) is ExactFloat else field for field in sent]
    if text in fields or not _number(text):
        return text
    number = float(text)
    digits = {
        field.lstrip("-")
        for field in fields
        if isinstance(field, str) and _number(field.lstrip("-")) and abs(float(field)) == number
    }
    return digits.pop() if len(digits) == 1 else text


class ExactReaders:
    """Replacements for ccxt's `safe_…` methods that also read `ExactFloat`s.

    ccxt's own check `type(value) is float`, which fails for a subclass. Names, arguments and results are the same.
    """

    get_object_value_from_key_list: Callable[[Any, list[Any]], Any]

    @staticmethod
    def aggregate(levels: Iterable[Sequence[Any]]) -> list[list[Any]]:
        """Sum the amounts at equal prices. A single level keeps its text (ccxt's own method adds 0 to it)."""
        sums: dict[Any, Any] = {}
        for price, volume, *_ in levels:
            if volume > 0:
                sums[price] = sums[price] + volume if price in sums else volume
        return [[price, volume] for price, volume in sums.items()]

    @staticmethod
    def safe_float(source: Any, key: Any, default: Any = None) -> Any:
        try:
            return ExactFloat(source[key])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return default

    @staticmethod
    def safe_string(source: Any, key: Any, default: Any = None) -> Any:
        try:
            value = source[key]
        except (KeyError, IndexError, TypeError, AttributeError):
            return default
        kind = type(value)
        if kind is str:
            return value or default
        if kind is ExactFloat:
            return value.text
        return str(value) if kind is int or kind is float else default

    @classmethod
    def safe_string_lower(cls, source: Any, key: Any, default: Any = None) -> Any:
        text = cls.safe_string(source, key)
        return default if text is None else text.lower()

    @classmethod
    def safe_string_upper(cls, source: Any, key: Any, default: Any = None) -> Any:
        text = cls.safe_string(source, key)
        return default if text is None else text.upper()

    @classmethod
    def safe_string_2(cls, source: Any, first: Any, second: Any, default: Any = None) -> Any:
        text = cls.safe_string(source, first)
        return cls.safe_string(source, second, default) if text is None else text

    @classmethod
    def safe_string_lower_2(cls, source: Any, first: Any, second: Any, default: Any = None) -> Any:
        text = cls.safe_string_2(source, first, second)
        return default if text is None else text.lower()

    @classmethod
    def safe_string_upper_2(cls, source: Any, first: Any, second: Any, default: Any = None) -> Any:
        text = cls.safe_string_2(source, first, second)
        return default if text is None else text.upper()

    @classmethod
    def safe_string_n(cls, source: Any, keys: list[Any], default: Any = None) -> Any:
        value = cls.get_object_value_from_key_list(source, keys)
        kind = type(value)
        if kind is str:
            return value
        if kind is ExactFloat:
            return value.text
        return str(value) if kind is int or kind is float else default

    @classmethod
    def safe_string_lower_n(cls, source: Any, keys: list[Any], default: Any = None) -> Any:
        text = cls.safe_string_n(source, keys)
        return default if text is None else text.lower()

    @classmethod
    def safe_string_upper_n(cls, source: Any, keys: list[Any], default: Any = None) -> Any:
        text = cls.safe_string_n(source, keys)
        return default if text is None else text.upper()


_number = re.compile(r"[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,3})?").fullmatch
_decoder = msgspec.json.Decoder(float_hook=ExactFloat)


def decode_json(text: str | bytes) -> Any:
    """Decode JSON, with every fractional number as an `ExactFloat`. Raises ValueError if the text is not JSON."""
    try:
        return _decoder.decode(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep to be read") from error


def encode_json(value: Any) -> bytes:
    """Encode JSON so that `decode_json` returns numbers with the same texts."""
    return msgspec.json.encode(_with_texts(value))


def _with_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_texts(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_texts(item) for item in value]
    if type(value) is ExactFloat:
        return msgspec.Raw(value.text.encode()) if _is_json_fraction(value.text) else float(value)
    return value


def _is_json_fraction(text: str) -> bool:
    """Whether the text is a JSON number with a fraction or an exponent."""
    try:
        return type(_decoder.decode(text)) is ExactFloat
    except ValueError:
        return False


def _plain_text(value: float | int) -> str:
    """The shortest text without an exponent that reads back as the same number."""
    text = repr(value)
    return f"{Decimal(text):f}" if "e" in text else text
