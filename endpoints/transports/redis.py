"""Redis, and what speaks its protocol: asked by probes and suites, never sent messages."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from endpoints.transports.base import AckLevel, Address, Advice, ErrorClass, Outgoing, Reply, Transport, TransportError
from endpoints.transports.http_config import HTTP_CONFIG
from endpoints.transports.sessions import Sessions
from endpoints.transports.tls import endpoint_context

if TYPE_CHECKING:
    from endpoints.transports.redis_connection import RedisConnection

MAX_BYTES = 4 * 1024 * 1024
KINDS = frozenset({"basic", "mtls"})


class RedisTransport(Transport):
    """Asks a server; see `ask`. Needs the extra `redis`."""

    USES: ClassVar[tuple[str, ...]] = ("probe", "test")
    NEEDS_HOST: ClassVar[bool] = True
    DEFAULT_PORT: ClassVar[int | None] = 6379
    CONFIG_SCHEMA: ClassVar[dict[str, Any]] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Redis endpoint",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "database": {"type": "integer", "minimum": 0, "maximum": 10_000, "default": 0},
            "tls": {
                **HTTP_CONFIG["properties"]["tls"],
                "description": "With it, even empty, the line is encrypted and the server's certificate verified.",
            },
        },
    }

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._sessions: Sessions[RedisConnection] | None = None

    @classmethod
    def check_credential(cls, kind: str, config: Mapping[str, Any]) -> str:
        """Return why a credential of this kind cannot be shown; see `Transport.check_credential`."""
        if kind not in KINDS:
            return f"a credential of kind '{kind}' cannot be shown to Redis: a user with a password can (basic)"
        return (
            "a certificate is shown over TLS: add tls to the config" if kind == "mtls" and "tls" not in config else ""
        )

    async def open(self) -> None:
        """Prepare; the first question connects."""
        self._sessions = Sessions(
            self.address.max_in_flight, self._connect, lambda one: one.hang_up(), lambda one: one.is_sound
        )

    async def send(self, outgoing: Outgoing) -> Reply:
        """Refuse: what goes into Redis is for suites to write, and they say so."""
        raise TransportError(
            "a Redis endpoint takes no messages; it is there for probes and tests",
            error_class=ErrorClass.CLIENT_ERROR,
            advice=Advice.DEAD,
        )

    async def ask(self, words: Sequence[Any], *, most_bytes: int = MAX_BYTES) -> Any:
        """Return what is said to one command, in JSON's types; raises TransportError (a Refusal for an error)."""
        from endpoints.transports.redis_connection import plain

        if self._sessions is None:
            raise TransportError("the connection is closed", error_class=ErrorClass.CONNECT)
        async with self._sessions.lend() as connection:
            return plain(await connection.ask(list(words), most_bytes))

    async def probe(self) -> Reply:
        """Say PING; raises TransportError."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self.address.timeout_s):
                said = await self.ask(["PING"])
        except TimeoutError as exc:
            raise TransportError(f"{self.address.host}: no answer in time", error_class=ErrorClass.TIMEOUT) from exc
        return Reply(AckLevel.APPLICATION, (time.perf_counter() - started) * 1000, body=str(said).encode())

    async def aclose(self) -> None:
        """Close what nobody uses; the rest when it is given back."""
        sessions, self._sessions = self._sessions, None
        if sessions is not None:
            await sessions.aclose()

    async def _connect(self) -> "RedisConnection":
        try:
            from endpoints.transports.redis_connection import RedisConnection
        except ImportError as exc:
            raise TransportError(
                "protocol 'redis' needs the extra 'redis': pip install 'integration-control-plane[redis]'",
                error_class=ErrorClass.INTERNAL,
            ) from exc
        address, config, secret = self.address, self.address.config, self.address.credential
        user: dict[str, Any] = {}
        if secret is not None and secret.kind == "basic":
            user = {"username": str(secret.data["username"]) or None, "password": str(secret.data["password"])}
        made = RedisConnection(
            address.host,
            address.port or self.DEFAULT_PORT or 0,
            tls=endpoint_context(address) if "tls" in config else None,
            server_name=(config.get("tls") or {}).get("server_name"),
            db=config.get("database", 0),
            **user,
        )
        try:
            await made.begin()
        except BaseException:
            await made.hang_up()
            raise
        return made
