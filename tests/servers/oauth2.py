"""A small OAuth2 token endpoint (RFC 6749, section 4.4) that counts what it issues and can revoke it."""

import base64
from itertools import count
from urllib.parse import parse_qs, unquote

import orjson

from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver, Received


class TokenServer(HttpReceiver):
    """Issues tokens `token-1`, `token-2`, ... to the client it knows; `valid` says whether one still counts."""

    def __init__(self, client_id: str = "client", client_secret: str = "s3cret-canary", expires_in: int = 3600) -> None:
        super().__init__()
        self.client = (client_id, client_secret)
        self.expires_in = expires_in
        self.issued: list[str] = []
        self.revoked: set[str] = set()
        self._numbers = count(1)
        self.answer(self._issue)

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    def valid(self, token: str) -> bool:
        """Say whether a resource server should take this token."""
        return token in self.issued and token not in self.revoked

    def guard(self, request: Received) -> int:
        """Answer as a resource server would: 204 for a valid bearer token, 401 otherwise."""
        return 204 if self.valid(request.headers.get("authorization", "").removeprefix("Bearer ")) else 401

    def _issue(self, request: Received) -> Answer:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if form.get("grant_type") != "client_credentials" or _client(request, form) != self.client:
            return Answer(401, b'{"error":"invalid_client"}', {"Content-Type": "application/json"})
        self.issued.append(f"token-{next(self._numbers)}")
        body = {"access_token": self.issued[-1], "token_type": "Bearer", "expires_in": self.expires_in}
        return Answer(200, orjson.dumps(body), {"Content-Type": "application/json"})


def _client(request: Received, form: dict[str, str]) -> tuple[str, str]:
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    name, _, secret = base64.b64decode(encoded).decode().partition(":")
    return unquote(name), unquote(secret)
