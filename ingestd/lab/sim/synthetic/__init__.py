"""Generates endless markets in Binance's real wire format."""
