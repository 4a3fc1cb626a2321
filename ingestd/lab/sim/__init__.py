"""The exchange simulator: replays captures and generates markets, for the demo, the tests and the benchmarks.

In: captures, or the seed of a market.
Out: frames, REST replies, and a ledger of everything sent.
"""
