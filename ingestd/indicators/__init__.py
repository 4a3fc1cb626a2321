"""Computes technical indicators over closed candles, and stores them.

In: the candles of the database (`candles_*`), the rules of `[indicators]`, and marks of what a backfill changed.
Out: rows of `indicators_cache`; the newest value of each to the live sinks.
"""
