"""Finds what is wrong with the database, and the SQL statement or command that mends it. Changes nothing.

Each check reads facts with a few queries and judges them by a function without I/O; `checks.CHECKS` has its row.

In: a connection, the configuration, the description of the schema in `sql/described/`.
Out: findings.
"""
