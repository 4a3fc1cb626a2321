"""Feeds that decode the messages of the busiest exchanges without ccxt. The decoders are in `venues`.

In: frames.
Out: records and gaps, handed to an intake.
"""
