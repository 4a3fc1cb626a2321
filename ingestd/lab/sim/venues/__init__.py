"""The venues that the simulator can replay: each file implements `base.Venue`, and has a line in `capture.py`."""
