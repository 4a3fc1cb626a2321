"""ingestd captures crypto market data without loss and stores it in TimescaleDB, Redis and Kafka."""

__version__ = "0.1.0"
