"""Which exchange offers what, and which feed serves it.

In: a feed's configuration.
Out: its problems, before anything is connected.
"""
