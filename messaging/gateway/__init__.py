"""The gateway: a system's own clients on one socket, which send, receive and follow event streams."""
