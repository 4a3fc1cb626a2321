"""The local journal: what is not stored everywhere yet.

In: batches.
Out: the same batches to each sink, after a crash too.
"""
