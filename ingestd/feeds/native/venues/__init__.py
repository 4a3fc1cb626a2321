"""One file an exchange: its messages as records.

In: frames as the exchange documents them.
Out: messages, in the terms of `feeds/native/messages.py`.
"""
