"""Fills gaps over REST: compares a venue's past with stored rows, and hands missing ones to the intake.

In: gaps that are due.
Out: records for the intake, and a verdict for each gap.
"""
