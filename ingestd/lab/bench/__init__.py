"""`ingestd bench`: what this machine does, each figure beside its limit measured in the same run."""
