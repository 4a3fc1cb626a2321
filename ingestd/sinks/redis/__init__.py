"""The live view without I/O: what is published and cached, as bytes. `sinks.redis_live` connects and sends."""
