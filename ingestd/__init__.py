"""ingestd captures crypto market data losslessly and puts it where people use it."""

__version__ = "0.1.0"
