"""The table of sinks, the contract of a sink, and what durable sinks share: retries and the gathering of a flush.

In: batches from the journal.
Out: what each sink's folder makes of them; an acknowledgement once they are stored.
"""
