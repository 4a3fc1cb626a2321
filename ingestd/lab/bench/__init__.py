"""`ingestd bench`: what this machine does, each figure beside its limit measured in the same run.

In: recorded frames.
Out: figures, each beside its limit of the same run.
"""
