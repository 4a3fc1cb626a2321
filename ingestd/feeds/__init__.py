"""The contract of a feed, and what all feeds share.

In: frames from an exchange.
Out: records and gaps, handed to an intake.
"""
