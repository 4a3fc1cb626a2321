"""The table of sinks, the contract of a sink, and what durable sinks share: retries and collecting a flush.

In: batches from the journal.
Out: writes to each sink's server; an acknowledgement once they are stored.
"""
