"""Simulator, demo and benchmark: no running daemon imports them.

In: recorded or generated traffic.
Out: comparisons and figures.
"""
