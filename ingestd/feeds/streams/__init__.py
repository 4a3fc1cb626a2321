"""The state of each stream of a feed: what it has received, and what it may have missed.

In: records as they arrive.
Out: gaps, duplicates to drop, streams that fell silent.
"""
