"""Takes a credential's secrets out of what a peer said: one that echoes what it was sent must not be recorded so."""

from endpoints.transports.credentials import SHORTEST_SECRET, Authorization


class Masking:
    """Puts `$NAME` in place of what `auth` hides, as it is at that moment."""

    def __init__(self, auth: Authorization) -> None:
        self._auth = auth

    @property
    def secrets(self) -> list[str]:
        """Return the texts to look for."""
        return [secret for secret in self._auth.hidden if len(secret) >= SHORTEST_SECRET]

    @property
    def longest(self) -> int:
        """Return how many bytes the longest of them has: so many more must be read than are kept."""
        return max((len(secret.encode()) for secret in self.secrets), default=0) if self._auth.hidden else 0

    def text(self, text: str) -> str:
        """Return a text without them; do it before the text is cut, or a part of one stays."""
        for secret in self.secrets:
            text = text.replace(secret, self._auth.mask)
        return text

    def body(self, body: bytes, *, truncated: bool) -> bytes:
        """Return a body without them; the end of one that is cut may hold the beginning of one."""
        for secret in self.secrets:
            body = body.replace(secret.encode(), self._auth.mask.encode())
        return body[: max(len(body) - self.longest, 0)] if truncated else body
