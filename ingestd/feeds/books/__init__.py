"""Order books: whether ours equals the exchange's, and which ones to sample.

In: snapshots and changes.
Out: books to record, and which books are broken.
"""
