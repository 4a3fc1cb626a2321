"""Closing gaps over REST: where a venue's past, what is stored, and the intake meet.

In: gaps that are due.
Out: records for the intake, and a verdict for each gap.
"""
