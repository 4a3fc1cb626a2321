"""The demo: runs the whole daemon against a simulated exchange.

In: a simulated exchange's ledger.
Out: whether every record was stored and published once.
"""
