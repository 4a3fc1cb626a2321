"""An exchange's list of markets.

In: the list, and the configured names and patterns.
Out: symbols to follow, and symbols that may have been delisted.
"""
