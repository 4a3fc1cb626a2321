"""The Kafka client, and the format of our messages.

In: records to publish, topics to read.
Out: messages, and errors in our own classes.
"""
