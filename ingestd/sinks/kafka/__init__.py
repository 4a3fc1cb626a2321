"""Publishes the journal to the topics `wolfinch.market.*`.

In: batches from the journal.
Out: messages, in order within a symbol.
"""
