"""Order books: whether ours equals the exchange's, and when it is sampled.

In: snapshots and changes.
Out: books to record, and the news that one is broken.
"""
