"""Searching an exchange's past for the trades that a gap lacks.

In: pages of past trades.
Out: those that are missing, and what is proved complete.
"""
