"""The recorder of a feed and the periodic work beside it, the same for ccxt feeds and native feeds.

In: records that a reader made of updates, and what happens to the connections.
Out: records and gaps, handed to the intake.
"""
