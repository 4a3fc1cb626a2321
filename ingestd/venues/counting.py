"""What an exchange counts its trades and its open interest in. Pure."""

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
    """What the quantity of a trade in contracts counts; where nothing is said it is unknown.

    `in_contracts`: contracts of ccxt's `contractSize`, of the base currency where the contract is linear, of the quote
    currency where it is inverse. `currency`: a currency instead, by the kind of contract. `of_options`: the same of
    options; those of others have a multiplier that ccxt does not always have. `quanto_multiplier`: the market says its
    size under that name, and ccxt takes 0 for 1. `contract_value`: the market says which currency a contract is of
    (`ctValCcy`), and has a multiplier (`ctMult`). `in_base_unsaid`: the database knows without being told that linear
    contracts are counted in base (ingestd_counted_base() in sql/migrations/0009).
    """

    in_contracts: bool = False
    currency: Mapping[str, Currency] = field(default_factory=dict)
    of_options: bool = False
    quanto_multiplier: bool = False
    contract_value: bool = False
    in_base_unsaid: bool = False


@dataclass(frozen=True, slots=True)
class Counting:
    """What one venue counts in, by the kind of contract.

    `misplaced`: ccxt takes this count for a value. `valued`: it takes this value for a count, and makes another
    one of it. `no_value`: what it takes for a value in quote currency is none. `unread`: the field of a count that it
    does not read. `unit_of_sample`: what a message says itself that it counts in.
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
        """What contracts of this kind are counted in."""
        units: dict[Kind, OpenInterestUnit | None] = {
            "linear": self.linear,
            "inverse": self.inverse,
            "option": self.option,
            "other": self.other,
        }
        return units[kind]


IN_CONTRACTS = Counting("contracts", "contracts", "contracts", "contracts")
