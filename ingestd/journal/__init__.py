"""The local journal: batches that some sink has not stored yet.

In: batches.
Out: the same batches to each sink, after a crash too.
"""
