"""What tells one document from another."""

import hashlib


def digest(text: str) -> str:
    """Return the SHA-256 of a document."""
    return hashlib.sha256(text.encode()).hexdigest()
