"""The pages of messages and deliveries: lists, the life of one message, the send form, the system page."""

from messaging.admin import deliveries, listeners, messages

__all__ = ["deliveries", "listeners", "messages"]
