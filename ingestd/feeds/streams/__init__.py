"""What each stream of a feed has received, and what it lacks.

In: records as they arrive.
Out: gaps, repeats to drop, streams that fell silent.
"""
