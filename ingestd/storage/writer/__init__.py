"""Writes rows and the positions they came from in one transaction.

In: records and where they came from.
Out: committed rows; duplicates merged, refused rows put aside.
"""
