"""The database: connections, migrations, policies, candles, the gap ledger.

In: SQL files and questions of other rooms.
Out: answers, and errors in our own classes.
"""
