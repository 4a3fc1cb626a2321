"""What ingestd reaches, measured: `make bench`."""
