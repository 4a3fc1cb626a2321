"""Reads Kafka topics and stores their messages exactly once.

In: messages.
Out: rows and offsets in one transaction; bad messages put aside.
"""
