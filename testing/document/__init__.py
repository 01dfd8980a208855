"""The suite format: text in, a checked `Suite` out, or every fault with its line and column."""

from testing.document.reader import MAX_BYTES, read_suite
from testing.document.suite import Case, Step, Suite

__all__ = ["MAX_BYTES", "Case", "Step", "Suite", "read_suite"]
