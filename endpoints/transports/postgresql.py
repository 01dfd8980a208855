"""PostgreSQL: asked by probes and suites, never sent messages.

libpq opens its own sockets, so it is told the checked address (`hostaddr`) beside the
name. Every statement runs in a transaction that is read-only unless it was asked to
write, under a statement timeout, and by itself: the extended protocol takes no second one.
"""

import asyncio
import re
import select
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

from endpoints.egress import default_egress
from endpoints.transports.base import AckLevel, Address, Advice, ErrorClass, Outgoing, Reply, Transport, TransportError
from endpoints.transports.credentials import placeholder
from endpoints.transports.http_config import HTTP_CONFIG
from endpoints.transports.postgresql_rows import RowByRow
from endpoints.transports.postgresql_tls import tls_settings
from endpoints.transports.postgresql_values import not_connected, plain_row, refused
from endpoints.transports.sessions import Refusal, Sessions

MAX_BYTES = 4 * 1024 * 1024
CANCEL_S = 0.5
KINDS = frozenset({"basic", "mtls"})
FIRST_WORD = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*([A-Za-z]+)", re.DOTALL)
ENDS = ("BEGIN", "START", "COMMIT", "ROLLBACK", "PREPARE TRANSACTION")  # command tags
REFUSED = ErrorClass.CLIENT_ERROR
ISOLATION = ("read committed", "repeatable read", "serializable")
APPLICATION = "controlplane"
SETTINGS = "SELECT set_config('statement_timeout', %s, true), set_config('TimeZone', 'UTC', true)"


@dataclass(frozen=True, slots=True)
class Asked:
    """What to run, as one transaction; `keeps` is whether it is committed, if it may write."""

    statements: Sequence[tuple[str, Sequence[Any] | None]]
    write: bool = False
    keeps: bool = True
    timeout_s: float = 25.0
    isolation: str = ISOLATION[0]
    most_rows: int = 1000


@dataclass(slots=True)
class Answered:
    """The rows of the last statement, its command tag (`UPDATE 3`), and how long the statements took."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    command: str = ""
    took_ms: float = 0.0


class TooMuch(Exception):
    """More came back than may be looked at: to judge a part would be to judge something else."""


class _Connection(psycopg.AsyncConnection[Any]):
    """One that keeps nobody waiting: a server that does not take a cancel in time loses the connection."""

    async def _try_cancel(self, *, timeout: float = CANCEL_S) -> None:  # noqa: ASYNC109 - the base's own
        try:
            await self.cancel_safe(timeout=min(timeout, CANCEL_S))
        except (psycopg.Error, OSError):
            self.pgconn.finish()


class PostgresqlTransport(Transport):
    """Asks a server; see `ask`."""

    USES: ClassVar[tuple[str, ...]] = ("probe", "test")
    NEEDS_HOST: ClassVar[bool] = True
    DEFAULT_PORT: ClassVar[int | None] = 5432
    CONFIG_SCHEMA: ClassVar[dict[str, Any]] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "PostgreSQL endpoint",
        "type": "object",
        "additionalProperties": False,
        "required": ["database"],
        "properties": {
            "database": {
                "type": "string",
                "minLength": 1,
                "maxLength": 63,
                "description": "The database to connect to.",
            },
            "user": {
                "type": "string",
                "minLength": 1,
                "maxLength": 63,
                "default": "postgres",
                "description": "Whom to connect as, where the credential does not say it.",
            },
            "tls": {
                **HTTP_CONFIG["properties"]["tls"],
                "description": "With it, even empty, the line is encrypted and the server's certificate verified.",
            },
        },
    }

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._sessions: Sessions[_Connection] | None = None

    @classmethod
    def check_credential(cls, kind: str, config: Mapping[str, Any]) -> str:
        """Return why a credential of this kind cannot be shown; see `Transport.check_credential`."""
        if kind not in KINDS:
            return f"a credential of kind '{kind}' cannot be shown to PostgreSQL: a user with a password can (basic)"
        return (
            "a certificate is shown over TLS: add tls to the config" if kind == "mtls" and "tls" not in config else ""
        )

    async def open(self) -> None:
        """Prepare; the first question connects."""
        self._sessions = Sessions(self.address.max_in_flight, self._connect, _close, _is_sound)

    async def send(self, outgoing: Outgoing) -> Reply:
        """Refuse: there is nothing in a database that takes messages."""
        raise TransportError(
            "a PostgreSQL endpoint takes no messages; it is there for probes and tests",
            error_class=ErrorClass.CLIENT_ERROR,
            advice=Advice.DEAD,
        )

    async def ask(self, asked: Asked) -> Answered:
        """Run the statements as one transaction; raises TransportError (a Refusal for the server's no), or TooMuch."""
        if self._sessions is None:
            raise TransportError("the connection is closed", error_class=ErrorClass.CONNECT)
        async with self._sessions.lend() as connection:
            try:
                return await _transaction(connection, asked)
            except psycopg.Error as exc:
                raise refused(exc) from exc

    async def probe(self) -> Reply:
        """Connect, or use what is connected, and ask for the version; raises TransportError."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self.address.timeout_s):
                found = await self.ask(Asked([("SHOW server_version", None)], timeout_s=self.address.timeout_s))
        except TimeoutError as exc:
            raise TransportError(f"{self.address.host}: no answer in time", error_class=ErrorClass.TIMEOUT) from exc
        body = f"PostgreSQL {found.rows[0]['server_version']}".encode()
        return Reply(AckLevel.APPLICATION, (time.perf_counter() - started) * 1000, body=body)

    async def aclose(self) -> None:
        """Close what nobody uses; the rest when it is given back."""
        sessions, self._sessions = self._sessions, None
        if sessions is not None:
            await sessions.aclose()

    async def _connect(self) -> _Connection:
        """Connect to the first checked address that answers; raises TransportError."""
        address, secret = self.address, self.address.credential
        port = address.port or self.DEFAULT_PORT or 0
        user: dict[str, Any] = {"user": address.config.get("user", "postgres")}
        if secret is not None and secret.kind == "basic":
            user = {"user": str(secret.data["username"]), "password": str(secret.data["password"])}
        fault: TransportError | None = None
        for target in await default_egress().resolve(address.host, port):
            try:
                with tls_settings(address) as tls:
                    return await _Connection.connect(
                        **{"host": address.host} | tls | user,
                        hostaddr=target.address,
                        port=port,
                        dbname=address.config["database"],
                        application_name=APPLICATION,
                        connect_timeout=max(2, round(address.timeout_s)),
                        passfile="",
                        gssencmode="disable",
                        autocommit=True,  # transactions are begun and ended by name
                        prepare_threshold=None,  # a plan that was kept would outlive the tables it is for
                    )
            except psycopg.Error as exc:
                fault = not_connected(exc, f"{address.host}:{port}")
                if secret is not None and "password" in user:
                    fault.detail = fault.detail.replace(user["password"], placeholder(secret.name))
                fault.__cause__ = None  # it holds what it was connected with
        raise fault or TransportError(f"no address for {address.host}", error_class=ErrorClass.DNS)


async def _transaction(connection: _Connection, asked: Asked) -> Answered:
    """Run them all; whatever the server says, nothing of it is left on the connection."""
    mode = "READ WRITE" if asked.write else "READ ONLY"
    await connection.execute(f"BEGIN ISOLATION LEVEL {asked.isolation.upper()} {mode}".encode())
    found = Answered()
    try:
        # Being a query it also takes the snapshot after which no transaction can become one that writes.
        await connection.execute(SETTINGS, [f"{max(1, round(asked.timeout_s * 1000))}ms"])
        started = time.perf_counter()
        for statement, args in asked.statements:
            found = await _run(connection, statement, args, asked)
        found.took_ms = (time.perf_counter() - started) * 1000
    except (psycopg.Error, TooMuch, Refusal):
        await _end(connection, b"ROLLBACK")
        raise
    await _end(connection, b"COMMIT" if asked.write and asked.keeps else b"ROLLBACK")
    return found


async def _end(connection: _Connection, word: bytes) -> None:
    """End the transaction, and forget what the session was told: settings, locks, temporary tables."""
    if connection.closed:
        return
    try:
        await connection.execute(word)
    finally:
        await connection.execute(b"DISCARD ALL")


async def _run(connection: _Connection, statement: str, args: Sequence[Any] | None, asked: Asked) -> Answered:
    given = None if args is None else [Jsonb(value) if isinstance(value, dict) else value for value in args]
    query = statement.encode()
    if is_query(statement, write=asked.write):
        # Through a cursor no more is made than is looked at.
        async with connection.cursor(name="step") as cursor:
            await cursor.execute(query, given)
            fetch_all = f"FETCH FORWARD {asked.most_rows + 1} FROM step"
            rows, _ = await _read(connection, fetch_all.encode(), None, asked.most_rows)
            return Answered(rows, f"SELECT {len(rows)}")
    rows, tag = await _read(connection, query, given, asked.most_rows)
    if tag.startswith(ENDS):
        # Behind it there may be no transaction, or one of another kind.
        raise Refusal(f"{tag}: a statement may not begin or end its transaction", error_class=REFUSED, code="2D000")
    return Answered(rows, tag)


def is_query(statement: str, *, write: bool) -> bool:
    """Say whether a cursor can be declared for a statement: by its first word, behind comments and parentheses."""
    found = FIRST_WORD.match(statement)
    word = found[1].lower() if found else ""
    return word in ("select", "values", "table") or (word == "with" and not write)


async def _read(
    connection: _Connection, query: bytes, given: Sequence[Any] | None, most: int
) -> tuple[list[dict[str, Any]], str]:
    """Return all rows and the command tag, taking row by row what the server sends; raises TooMuch."""
    rows: list[dict[str, Any]] = []
    names: list[str] = []
    size = 0
    cursor = RowByRow(connection)
    stream = cast(AsyncGenerator[Any, None], cursor.stream(query, given))
    try:
        async with cursor, aclosing(stream):
            async for row in stream:
                names = names or [column.name for column in cursor.description or ()]
                rows.append(plain_row(names, row))
                size += len(str(row))
                if len(rows) > most:
                    raise TooMuch(f"more than {most} rows came back; narrow the query, or raise its limit")
                if size > MAX_BYTES:
                    raise TooMuch(f"the rows come to more than {MAX_BYTES} bytes; narrow the query")
    finally:
        if connection.info.transaction_status == TransactionStatus.ACTIVE:
            await connection.close()  # it would not be cancelled
    return rows, cursor.tag


async def _close(connection: _Connection) -> None:
    await connection.close()


def _is_sound(connection: _Connection) -> bool:
    """Say whether an idle connection still stands: one that has something to read was ended, or is told so."""
    if connection.closed:
        return False
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return not poller.poll(0)
