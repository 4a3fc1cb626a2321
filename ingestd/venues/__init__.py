"""What is known of each exchange, one file an exchange, and how what it sends is read. Pure.

In: nothing but the exchange's documents and its frames.
Out: facts as values; frames as messages, in the terms of `messages.py`.
"""
