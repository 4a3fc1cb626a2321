"""Feeds that read the busiest venues' own messages: one short file per venue, and what they share once.

In: frames.
Out: records and gaps, handed to an intake.
"""
