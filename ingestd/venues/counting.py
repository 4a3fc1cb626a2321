"""The units in which an exchange counts trades and open interest. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ingestd.records import OpenInterestUnit

Currency: TypeAlias = Literal["base", "quote", "unknown"]
Kind: TypeAlias = Literal["linear", "inverse", "option", "other"]
ANY_KIND: frozenset[Kind] = frozenset({"linear", "inverse", "option", "other"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantities:
    """The unit of a trade's quantity in contract markets; unknown by default.

    `in_contracts`: contracts of ccxt's `contractSize`, in base currency if the contract is linear, in quote currency if
    it is inverse. `currency`: quantities are in this currency instead, by kind of contract. `of_options`: the same unit
    applies to options; at other venues options have a multiplier that ccxt may lack. `quanto_multiplier`: the market
    has a field of this name with its contract size, and ccxt reads 0 as 1. `contract_value`: the market states the
    currency of a contract (`ctValCcy`) and a multiplier (`ctMult`). `in_base_unsaid`: linear contracts are counted in
    base, which the database knows by itself (ingestd_counted_base() in sql/migrations/0009).
    """

    in_contracts: bool = False
    currency: Mapping[str, Currency] = field(default_factory=dict)
    of_options: bool = False
    quanto_multiplier: bool = False
    contract_value: bool = False
    in_base_unsaid: bool = False


@dataclass(frozen=True, slots=True)
class Counting:
    """The unit of a venue's open interest, by kind of contract.

    `misplaced`: kinds for which ccxt returns the count as the value. `valued`: kinds for which ccxt returns the value
    as the count, and computes another value from it. `no_value`: kinds for which ccxt's value is not in quote currency.
    `unread`: the field of a count that ccxt does not read. `unit_of_sample`: reads the unit from the message itself.
    """

    linear: OpenInterestUnit | None = None
    inverse: OpenInterestUnit | None = None
    option: OpenInterestUnit | None = None
    other: OpenInterestUnit | None = None
    misplaced: frozenset[Kind] = frozenset()
    valued: frozenset[Kind] = frozenset()
    no_value: frozenset[Kind] = frozenset()
    unread: str | None = None
    unit_of_sample: Callable[[Any], OpenInterestUnit | None] | None = None

    def unit(self, kind: Kind) -> OpenInterestUnit | None:
        """The unit of the open interest of this kind of contract."""
        units: dict[Kind, OpenInterestUnit | None] = {
            "linear": self.linear,
            "inverse": self.inverse,
            "option": self.option,
            "other": self.other,
        }
        return units[kind]


IN_CONTRACTS = Counting("contracts", "contracts", "contracts", "contracts")
