"""Searches an exchange's past trades for those that are missing in a gap.

In: pages of past trades.
Out: the missing trades, and the windows of time that are proved complete.
"""
