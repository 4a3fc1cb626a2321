"""Simulator, demo and benchmark; the daemon imports none of them.

In: recorded or generated traffic.
Out: comparisons and figures.
"""
