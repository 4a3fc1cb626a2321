"""Publishes to Redis channels and caches, best effort; nothing waits for it.

In: records as they are sealed.
Out: PUBLISH and SET commands, as bytes.
"""
