"""Publishes to Redis channels and caches, best effort; nothing waits for it.

In: valid records before they are journaled, and changed orders.
Out: PUBLISH and SET commands, as bytes.
"""
