"""The exchange simulator: replays captures and generates markets, for the demo, the tests and the benchmarks."""
