"""Closing gaps over REST: where a venue's past, what is stored, and the intake meet."""
