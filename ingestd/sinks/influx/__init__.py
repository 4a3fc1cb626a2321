"""Sends candles, and by option trades and ticks, to InfluxDB or another server of its line protocol.

In: batches from the journal.
Out: points; those that the server refuses go into a file, with the reason.
"""
