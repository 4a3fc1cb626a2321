"""What may be missing: causes, open gaps, and what trade ids prove.

In: interruptions and ids.
Out: gap records.
"""
