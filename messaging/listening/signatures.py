"""How senders of hooks sign what they send: one row per scheme, one function that says whether a request is theirs.

Each function raises Unauthenticated with what is wrong; it never says what would have been right.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from endpoints.errors import Unauthenticated

WINDOW_S = 300
Headers = Mapping[bytes, bytes]
Check = Callable[[Headers, bytes, Sequence[bytes], float], bytes]  # returns what was signed
Mark = Callable[[Headers, bytes], bytes]
STANDARD_PREFIX = b"whsec_"
_NUMBER = re.compile(rb"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Scheme:
    """One row: how a request is checked, what for, and whether it needs secrets at all."""

    check: Check
    description: str
    needs_secret: bool = True
    challenge: Callable[[Any], bytes | None] | None = None  # answers a sender that only asks whether we are there
    mark: Mark | None = None  # what of a call is signed and never comes twice but for a repetition


def _nothing(headers: Headers, body: bytes, secrets: Sequence[bytes], now: float) -> bytes:
    """Take everything: for a network that is trusted, or a path that only the sender knows."""
    return b""


def _standard(headers: Headers, body: bytes, secrets: Sequence[bytes], now: float) -> bytes:
    """Check `webhook-signature` over `id.timestamp.body` (standardwebhooks.com)."""
    name, stamp = _header(headers, b"webhook-id"), _header(headers, b"webhook-timestamp")
    _fresh(stamp, now)
    given = [
        _base64(part.removeprefix(b"v1,"))
        for part in _header(headers, b"webhook-signature").split(b" ")
        if part.startswith(b"v1,")
    ]
    return _one_of(given, (_decoded(secret) for secret in secrets), name + b"." + stamp + b"." + body)


def _github(headers: Headers, body: bytes, secrets: Sequence[bytes], now: float) -> bytes:
    """Check `x-hub-signature-256: sha256=<hex>` over the body."""
    given = _header(headers, b"x-hub-signature-256")
    if not given.startswith(b"sha256="):
        raise Unauthenticated("x-hub-signature-256 must be sha256=<hexadecimal digits>", code="bad_signature")
    return _one_of([_hex(given[7:])], secrets, body)


def _ours(headers: Headers, body: bytes, secrets: Sequence[bytes], now: float) -> bytes:
    """Check `x-signature-256: sha256=<hex>` over the body: what our own credential of kind hmac sends."""
    return _one_of([_hex(_header(headers, b"x-signature-256").removeprefix(b"sha256="))], secrets, body)


def _stripe_parts(headers: Headers) -> tuple[bytes, list[tuple[bytes, bytes, bytes]]]:
    """Return the timestamp of a `stripe-signature`, and all its pairs."""
    pairs = [part.strip().partition(b"=") for part in _header(headers, b"stripe-signature").split(b",")]
    return next((value for name, _, value in pairs if name == b"t"), b""), pairs


def _stripe(headers: Headers, body: bytes, secrets: Sequence[bytes], now: float) -> bytes:
    """Check `stripe-signature: t=<seconds>,v1=<hex>[,v1=...]` over `t.body`."""
    stamp, pairs = _stripe_parts(headers)
    _fresh(stamp, now)
    return _one_of([_hex(value) for name, _, value in pairs if name == b"v1"], secrets, stamp + b"." + body)


def _slack(headers: Headers, body: bytes, secrets: Sequence[bytes], now: float) -> bytes:
    """Check `x-slack-signature: v0=<hex>` over `v0:timestamp:body`."""
    stamp = _header(headers, b"x-slack-request-timestamp")
    _fresh(stamp, now)
    given = _hex(_header(headers, b"x-slack-signature").removeprefix(b"v0="))
    return _one_of([given], secrets, b"v0:" + stamp + b":" + body)


def _slack_challenge(value: Any) -> bytes | None:
    if not isinstance(value, dict) or value.get("type") != "url_verification":
        return None
    return str(value.get("challenge", ""))[:500].encode()


def _token(headers: Headers, body: bytes, secrets: Sequence[bytes], now: float) -> bytes:
    """Check that a header holds the secret itself: `x-gitlab-token`, `x-webhook-token`, or a bearer token."""
    given = headers.get(b"x-gitlab-token") or headers.get(b"x-webhook-token")
    if given is None:
        given = _header(headers, b"authorization").partition(b" ")[2].strip()
    require_one(given, secrets, "the token is not the one agreed on")
    return b""


SCHEMES: dict[str, Scheme] = {
    "none": Scheme(_nothing, "nothing is checked", needs_secret=False),
    "standard_webhooks": Scheme(
        _standard,
        "Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature",
        mark=lambda headers, body: headers[b"webhook-id"],
    ),
    "github": Scheme(_github, "GitHub: x-hub-signature-256"),
    "stripe": Scheme(
        _stripe,
        "Stripe: stripe-signature with t and v1",
        mark=lambda headers, body: _stripe_parts(headers)[0] + b"." + body,
    ),
    "slack": Scheme(
        _slack,
        "Slack: x-slack-signature v0; its url_verification is answered",
        challenge=_slack_challenge,
        mark=lambda headers, body: headers[b"x-slack-request-timestamp"] + b":" + body,
    ),
    "hmac": Scheme(_ours, "x-signature-256: sha256=<hex> over the body"),
    "token": Scheme(_token, "the secret itself in x-gitlab-token, x-webhook-token or Authorization: Bearer"),
}


def _header(headers: Headers, name: bytes) -> bytes:
    value = headers.get(name)
    if not value:
        raise Unauthenticated(f"the header {name.decode()} is missing", code="bad_signature")
    return value


def _fresh(stamp: bytes, now: float) -> None:
    if not _NUMBER.fullmatch(stamp) or abs(now - int(stamp)) > WINDOW_S:
        raise Unauthenticated(f"the timestamp is not within {WINDOW_S} s of our clock", code="stale_signature")


def require_one(given: bytes, secrets: Iterable[bytes], otherwise: str) -> None:
    """Raise unless `given` is one of the secrets, each compared in full; one that is empty is nobody's."""
    if sum(hmac.compare_digest(given, secret) for secret in secrets if secret) == 0:
        raise Unauthenticated(otherwise, code="bad_signature")


def _one_of(given: Iterable[bytes], secrets: Iterable[bytes], signed: bytes) -> bytes:
    """Return `signed`; raise unless one of the signatures given is that of one of the secrets, each compared in full.

    A secret that cannot be read is empty, and nobody's: with an empty key anybody could sign.
    """
    wanted = [hmac.digest(secret, signed, "sha256") for secret in secrets if secret]
    if sum(hmac.compare_digest(one, other) for one in given for other in wanted) == 0:
        raise Unauthenticated("the signature does not fit", code="bad_signature")
    return signed


def _hex(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return b""


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _decoded(secret: bytes) -> bytes:
    """Return the key bytes of a Standard Webhooks secret: base64 after `whsec_`, else as it is."""
    return _base64(secret.removeprefix(STANDARD_PREFIX)) if secret.startswith(STANDARD_PREFIX) else secret
