"""Standard Webhooks signatures: HMAC-SHA256 over `id.timestamp.body` (standardwebhooks.com, symmetric `v1`)."""

import base64
import binascii
import hmac
from collections.abc import Iterable

from endpoints.transports.base import Advice, ErrorClass, Secret, TransportError

PREFIX = "whsec_"


def signing_key(secret: Secret) -> bytes:
    """Return the key bytes of a signing credential; `whsec_...` is base64, anything else is taken as UTF-8."""
    text = str(secret.data.get("secret", ""))
    if not text.startswith(PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except ValueError as exc:  # binascii.Error is one; characters beyond ASCII raise the plain kind
        raise TransportError(
            f"signing credential '{secret.name}' starts with {PREFIX} but does not hold base64",
            error_class=ErrorClass.AUTH,
            advice=Advice.RETRY,
        ) from exc


def signature(keys: Iterable[bytes], webhook_id: str, timestamp: str, body: bytes) -> str:
    """Return the `webhook-signature` value: one `v1,<base64>` per key, the newest first."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + binascii.b2a_base64(hmac.digest(key, signed, "sha256"), newline=False).decode() for key in keys
    )
