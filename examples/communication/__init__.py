"""A server to try the `communication` pack against: `python -m examples.communication [--break SWITCH]`."""
