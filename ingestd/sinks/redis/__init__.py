"""Redis channels and caches, best effort: never a reason to wait.

In: records as they are sealed.
Out: PUBLISH and SET commands, as bytes.
"""
