"""Trading events of other programs: orders and completed trades.

In: calls of `EventPublisher`, or messages of the topics.
Out: messages in the topics, rows in their tables.
"""

from ingestd.events.publisher import EventPublisher, envelope, publish

__all__ = ["EventPublisher", "envelope", "publish"]
