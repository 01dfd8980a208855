"""API keys as text: `cp_<id>_<secret>`. Only a hash of the key is ever stored."""

import hashlib
import hmac
import secrets
import uuid

from endpoints.ids import new_id

PREFIX = "cp_"


def make_key() -> tuple[uuid.UUID, str, str]:
    """Return the id of a new key, the key itself, to be shown once, and the hash to store."""
    key_id = new_id()
    plaintext = f"{PREFIX}{key_id.hex}_{secrets.token_urlsafe(32)}"
    return key_id, plaintext, hash_key(plaintext)


def hash_key(plaintext: str) -> str:
    """Return the SHA-256 of a key; a slow hash would add nothing to 256 random bits."""
    return hashlib.sha256(plaintext.encode("utf-8", "surrogatepass")).hexdigest()


def id_of(token: str) -> uuid.UUID | None:
    """Return the id that a token of our form names, or None if it has another form."""
    parts = token.split("_", 2)
    if len(parts) != 3 or parts[0] != "cp" or len(parts[1]) != 32:
        return None
    try:
        return uuid.UUID(hex=parts[1])
    except ValueError:
        return None


def matches(token: str, secret_hash: str) -> bool:
    """Say whether `token` is the key with this hash, in constant time."""
    return hmac.compare_digest(hash_key(token), secret_hash)
