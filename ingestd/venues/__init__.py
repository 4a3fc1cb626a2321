"""Facts about each exchange, and decoders of its frames: one file an exchange. Pure.

In: the exchange's frames.
Out: facts as values; frames as messages, as `messages.py` defines them.
"""
