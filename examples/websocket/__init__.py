"""A hub to try the `websocket` pack against: `python -m examples.websocket [--break SWITCH]`."""
