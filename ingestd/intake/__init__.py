"""Where records of all feeds meet.

In: records and gaps from feeds and backfill.
Out: validated batches, made durable in the journal.
"""
