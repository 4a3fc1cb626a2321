"""Families of markets that an exchange lists together. Each exchange's file assigns requests to families. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """Markets that a venue lists together. `kinds`: as `feeds/markets/symbols.py` names them.

    A family without kinds is other data about markets (margin, fees), which no record needs.
    """

    name: str
    kinds: frozenset[str]


SPOT = Family("spot", frozenset({"spot"}))
LINEAR = Family("linear", frozenset({"linear"}))
INVERSE = Family("inverse", frozenset({"inverse", "quanto"}))
OPTIONS = Family("option", frozenset({"option"}))
SWAPS = Family("perpetual", frozenset({"linear", "inverse", "quanto"}))
DATED = Family("dated", frozenset({"linear", "inverse", "quanto"}))
CONTRACTS = Family("contract", frozenset({"linear", "inverse", "quanto"}))
BESIDE = Family("margin and fees", frozenset())
SINGLE = Family("details of single markets", frozenset({"spot", "linear", "inverse", "quanto"}))
