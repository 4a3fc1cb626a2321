"""`ingestd bench`: measures this machine's performance, each figure beside its limit from the same run.

In: recorded frames.
Out: figures, each beside its limit from the same run.
"""
