"""Which of two daemons captures.

In: the lease in the database.
Out: permission to capture, and the gap that a takeover leaves.
"""
