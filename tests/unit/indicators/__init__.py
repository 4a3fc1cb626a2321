"""Technical indicators: the pure parts."""
