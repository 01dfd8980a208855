"""How each kind of credential shows itself in an HTTP request: one row and one small class per kind."""

import base64
import hmac
import time
import uuid
from collections.abc import Mapping
from typing import Any

import jwt

from endpoints.transports.base import ErrorClass, Secret, TransportError

JWT_LIFETIME_S = 300
HMAC_HEADER = "x-signature-256"
SHORTEST_SECRET = 6  # shorter ones are not looked for in answers: they would be found everywhere


def placeholder(name: str) -> str:
    """Return how a credential stands in records: `$NAME`."""
    return "$" + name.upper().replace("-", "_")


class Authorization:
    """No credential: the base of the others.

    `fixed` are headers known when the endpoint is opened, `masked` the same for the
    record; `hidden` are the texts that no record may hold. A kind whose headers depend
    on the body or on time is `per_request`.
    """

    per_request = False

    def __init__(self, secret: Secret | None, audience: str) -> None:
        self.audience = audience
        self.secret = secret
        self.data: Mapping[str, Any] = secret.data if secret else {}
        self.mask = placeholder(secret.name) if secret else ""
        self.fixed: dict[str, str] = {}
        self.masked: dict[str, str] = {}
        self.hidden: tuple[str, ...] = ()
        self.prepare()

    def prepare(self) -> None:
        """Work out what does not depend on the request."""

    async def headers(self, body: bytes) -> dict[str, str]:
        """Return the headers for this body; only asked when `per_request`."""
        return {}

    def recorded(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return `headers` as they may be recorded."""
        return dict(headers)

    async def renew(self) -> bool:
        """Get a new secret after this one was refused; False when this kind has no such thing."""
        return False


class ApiKey(Authorization):
    def prepare(self) -> None:
        header, value = str(self.data.get("header") or "x-api-key").lower(), str(self.data["value"])
        self.fixed, self.masked, self.hidden = {header: value}, {header: self.mask}, (value,)


class Basic(Authorization):
    def prepare(self) -> None:
        password = str(self.data["password"])
        pair = f"{self.data['username']}:{password}"
        encoded = base64.b64encode(pair.encode()).decode()
        self.fixed = {"authorization": f"Basic {encoded}"}
        self.masked = {"authorization": f"Basic {self.mask}"}
        self.hidden = (encoded, password)


class Bearer(Authorization):
    def prepare(self) -> None:
        token = str(self.data["token"])
        self.fixed = {"authorization": f"Bearer {token}"}
        self.masked = {"authorization": f"Bearer {self.mask}"}
        self.hidden = (token,)


class Hmac(Authorization):
    """Signs the body: `X-Signature-256: sha256=<hex HMAC-SHA256>`, the form GitHub made common."""

    per_request = True

    def prepare(self) -> None:
        self.hidden = (str(self.data["secret"]),)
        self._key = self.hidden[0].encode()

    async def headers(self, body: bytes) -> dict[str, str]:
        return {HMAC_HEADER: f"sha256={hmac.digest(self._key, body, 'sha256').hex()}"}


class Jwt(Authorization):
    """Sends a short-lived token that we sign ourselves (in the manner of RFC 7523)."""

    per_request = True

    def prepare(self) -> None:
        self.hidden = (str(self.data["key"]),)
        self._token, self._renew_at = "", 0.0

    async def headers(self, body: bytes) -> dict[str, str]:
        now = time.time()
        if now >= self._renew_at:
            self._token = self._sign(int(now))
            self._renew_at = now + JWT_LIFETIME_S / 2
        return {"authorization": f"Bearer {self._token}"}

    def recorded(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {"authorization": f"Bearer {self.mask}"}

    def _sign(self, now: int) -> str:
        claims = {"aud": self.audience, "iat": now, "exp": now + JWT_LIFETIME_S, "jti": str(uuid.uuid4())}
        claims |= self.data.get("claims") or {}
        try:
            token = jwt.encode(claims, self.data["key"], algorithm=self.data.get("algorithm") or "HS256")
        except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError) as exc:
            raise TransportError(f"{self.mask} cannot sign a token: {exc}", error_class=ErrorClass.AUTH) from exc
        self.hidden = (str(self.data["key"]), token)
        return token


KINDS = {
    "api_key": "endpoints.transports.credentials.ApiKey",
    "basic": "endpoints.transports.credentials.Basic",
    "bearer": "endpoints.transports.credentials.Bearer",
    "hmac": "endpoints.transports.credentials.Hmac",
    "jwt": "endpoints.transports.credentials.Jwt",
    "mtls": "endpoints.transports.credentials.Authorization",  # it shows itself in the TLS handshake
    "oauth2_client": "endpoints.transports.oauth2.OAuth2Client",
}


def authorization(secret: Secret | None, audience: str) -> Authorization:
    """Return what `secret` adds to requests to `audience`; raises TransportError when its data is not usable."""
    from django.utils.module_loading import import_string

    if secret is None:
        return Authorization(None, audience)
    path = KINDS.get(secret.kind)
    if path is None:
        raise TransportError(f"credentials of kind '{secret.kind}' are not known here", error_class=ErrorClass.AUTH)
    found: type[Authorization] = import_string(path)
    try:
        return found(secret, audience)
    except KeyError as exc:
        raise TransportError(f"credential '{secret.name}' has no {exc}", error_class=ErrorClass.AUTH) from exc
