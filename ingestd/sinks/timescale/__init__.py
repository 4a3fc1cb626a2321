"""Stores the journal in PostgreSQL or TimescaleDB.

In: batches from the journal.
Out: rows; an acknowledgement once they are committed.
"""
