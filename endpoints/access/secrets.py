"""Secrets at rest: encrypted with the newest key, readable with any key still configured.

A stored blob is `<key id>:<Fernet token>`: the id says which key is missing when
one was dropped too early, and which rows `rotate_keys` still has to rewrite.
"""

from functools import lru_cache
from typing import Any

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from endpoints.errors import ControlPlaneError


class SecretsUnavailable(ControlPlaneError):
    """A secret cannot be read or written: a key is missing or wrong. The operator must act, not the caller."""

    code, status, title = "secrets_unavailable", 503, "Secrets unavailable"


def encrypt(data: dict[str, Any]) -> tuple[bytes, str]:
    """Return `data` encrypted with the newest key, and that key's id."""
    key_id = current_key_id()
    return key_id.encode() + b":" + _keys()[key_id].encrypt(orjson.dumps(data)), key_id


def decrypt(blob: bytes | memoryview) -> dict[str, Any]:
    """Return what `encrypt` was given; raises SecretsUnavailable naming the key that is missing."""
    found: dict[str, Any] = orjson.loads(_open(bytes(blob), lambda fernet, token: fernet.decrypt(token)))
    return found


def rotate(blob: bytes | memoryview) -> tuple[bytes, str]:
    """Return the same secret encrypted with the newest key, and that key's id."""
    key_id = current_key_id()
    newest = _keys()[key_id]
    token = _open(bytes(blob), lambda fernet, token: MultiFernet([newest, fernet]).rotate(token))
    return key_id.encode() + b":" + token, key_id


def current_key_id() -> str:
    """Return the id of the key that new secrets are encrypted with: the first one configured."""
    keys = _keys()
    if not keys:
        raise SecretsUnavailable(
            "no encryption key is configured; set CONTROLPLANE_ENCRYPTION_KEYS to `<key id>:<Fernet key>`"
        )
    return next(iter(keys))


def _open(blob: bytes, use: Any) -> bytes:
    """Return `use(fernet, token)` with the key named in the blob."""
    name, _, token = blob.partition(b":")
    key_id = name.decode("ascii", "replace")
    fernet = _keys().get(key_id)
    if fernet is None:
        raise SecretsUnavailable(
            f"a secret is encrypted with key '{key_id}', which is not in CONTROLPLANE_ENCRYPTION_KEYS"
        )
    try:
        opened: bytes = use(fernet, token)
    except InvalidToken as exc:
        raise SecretsUnavailable(f"key '{key_id}' does not open a secret that names it; was it replaced?") from exc
    return opened


def _keys() -> dict[str, Fernet]:
    return _parse(tuple(settings.ENV.encryption_keys))


@lru_cache(maxsize=4)
def _parse(entries: tuple[str, ...]) -> dict[str, Fernet]:
    """Return {key id: Fernet}, newest first, of `<key id>:<Fernet key>` entries."""
    keys: dict[str, Fernet] = {}
    for entry in entries:
        key_id, _, key = entry.partition(":")
        try:
            keys[key_id] = Fernet(key)
        except ValueError as exc:
            raise SecretsUnavailable(f"encryption key '{key_id}' is not 32 url-safe base64 bytes") from exc
    return keys
