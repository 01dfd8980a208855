"""History made in bulk, for size tests."""

from messaging.seed.make import Shape, seed

__all__ = ["Shape", "seed"]
