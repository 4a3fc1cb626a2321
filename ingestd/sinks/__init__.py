"""The contract of a sink, its retries, and the sink into the database.

In: batches from the journal.
Out: rows; an acknowledgement once they are committed.
"""
