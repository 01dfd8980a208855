"""Senders that ask by GET whether we are there before they send: one row per scheme whose senders do.

Nobody is answered who does not show that it was set up with our secret, and nothing is signed for whoever asks: a
sender that wants an answer signed with the secret of its hooks (a "CRC token") would have us sign any body.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence

import orjson

from endpoints.edge.wire import JSON_HEADER, TEXT_HEADER, Header
from endpoints.errors import Malformed
from messaging.listening.signatures import require_one

VERIFY = b"hub.verify_token"
TOKEN_CHARS = 32
MOST = 500
OKTA = b"x-okta-verification-challenge"

Query = Mapping[str, str]
Told = tuple[Header, bytes]
Asked = Callable[[Query, Mapping[bytes, bytes], Sequence[bytes]], Told | None]


def verify_token(secret: bytes) -> str:
    """Return what `hub.verify_token` is to be for a secret: not the secret, since URLs are logged, and no signature."""
    return hmac.digest(secret, VERIFY, "sha512").hex()[:TOKEN_CHARS]


def hub(query: Query, headers: Mapping[bytes, bytes], secrets: Sequence[bytes]) -> Told | None:
    """Answer `hub.challenge` with itself (Meta's webhooks; W3C WebSub, section 5.3)."""
    if "hub.challenge" not in query:
        return None
    tokens = (verify_token(secret).encode() for secret in secrets if secret)
    require_one(query.get("hub.verify_token", "").encode(), tokens, "hub.verify_token is not that of this hook")
    if query.get("hub.mode") != "subscribe":
        raise Malformed("hub.mode: must be subscribe")
    return TEXT_HEADER, _short(query["hub.challenge"])


def okta(query: Query, headers: Mapping[bytes, bytes], secrets: Sequence[bytes]) -> Told | None:
    """Answer Okta's one-time verification, which comes with the header that its events come with."""
    if OKTA not in headers:
        return None
    given = headers.get(b"authorization", b"").rpartition(b" ")[2].strip()
    require_one(given, secrets, "the token is not the one agreed on")
    return JSON_HEADER, orjson.dumps({"verification": _short(headers[OKTA].decode("latin-1")).decode()})


def _short(challenge: str) -> bytes:
    if not challenge.isprintable() or len(challenge) > MOST:
        raise Malformed(f"the challenge must be at most {MOST} printable characters")
    return challenge.encode()


CHALLENGES: dict[str, Asked] = {"github": hub, "token": okta}
