"""An endless market in Binance's real wire format."""
