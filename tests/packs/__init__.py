"""Packs pass against what is sound, and fail in the right case against what is broken in a stated way."""
