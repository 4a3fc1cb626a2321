"""Order books: whether ours equals the exchange's, and the steps to replace a wrong one.

In: books, checksums and sequence numbers.
Out: verdicts, and the next step.
"""
