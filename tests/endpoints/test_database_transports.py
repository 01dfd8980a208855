"""The protocols `postgresql` and `redis` below the steps: TLS, passwords in clear, and servers that say nothing."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from deploy import services
from endpoints.transports import make_transport
from endpoints.transports.base import ErrorClass, Secret, TransportError
from endpoints.transports.conformance import address, outgoing
from endpoints.transports.postgresql import Asked, PostgresqlTransport
from endpoints.transports.redis import RedisTransport
from tests.endpoints.conftest import Caller
from tests.servers.absence import not_installed
from tests.servers.certificates import CertificateAuthority
from tests.servers.fixtures import authority
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis
from tests.servers.sockets import lines_to

__all__ = ["authority"]


@pytest.fixture(scope="module")
def server(authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Return a server that speaks TLS as `localhost`, and asks role `plain` for a password in clear."""
    if services.postgres_programs() is None:
        not_installed("postgres", "postgresql")
    with Postgres() as made:
        pair = authority.issue("localhost")
        for name, text in (("server.crt", pair.cert), ("server.key", pair.key)):
            path = made.data / name
            path.write_text(text)
            path.chmod(0o600)
            if user := services.owner():
                shutil.chown(path, user)
        hba = made.data / "pg_hba.conf"
        hba.write_text(f"host all plain all password\n{hba.read_text()}")
        with psycopg.connect(made.url, autocommit=True) as connection:
            connection.execute("CREATE ROLE plain LOGIN PASSWORD 's3cret-in-clear'")
            connection.execute("ALTER SYSTEM SET ssl = on")
            connection.execute("SELECT pg_reload_conf()")
        yield made


def register(admin: Caller, **endpoint: Any) -> str:
    admin("POST", "systems/", {"slug": "db", "name": "Db"})
    made = admin("POST", "endpoints/", {"system": "db", "use": ["probe", "test"], "host": "localhost", **endpoint})
    assert made.status == 201, made.json
    return str(made.json["id"])


def probed(admin: Caller, interface: str, config: dict[str, Any], server: Postgres, **more: Any) -> tuple[bool, str]:
    given = {"database": "postgres", "user": "controlplane", **config}
    pk = register(admin, interface=interface, protocol="postgresql", port=server.port, config=given, **more)
    answer = admin("POST", f"endpoints/{pk}/probe/").json
    return answer["ok"], answer["error_class"]


def test_postgresql_over_tls_is_verified(admin: Caller, server: Postgres, authority: CertificateAuthority) -> None:
    """By the authority that is named, and by name; else it is refused, and no password is ever sent in clear."""
    secret = {"username": "plain", "password": "s3cret-in-clear"}
    assert admin("POST", "credentials/", {"name": "plain", "kind": "basic", "data": secret}).status == 201
    trusted = {"tls": {"ca": authority.pem}}

    assert probed(admin, "trusted", trusted, server) == (True, "")
    assert probed(admin, "named", {"tls": {"ca": authority.pem, "server_name": "other"}}, server) == (False, "tls")
    assert probed(admin, "unknown", {"tls": {}}, server) == (False, "tls")
    assert probed(admin, "blind", {"tls": {"verify": False}}, server) == (True, "")
    assert probed(admin, "clear", {}, server, credential="plain") == (False, "auth")
    assert probed(admin, "secret", trusted, server, credential="plain") == (True, "")


async def test_a_server_that_says_nothing_holds_nobody(server: Postgres) -> None:
    """Whoever gives up is free at once, though not even a cancel is heard."""
    place = address(protocol="postgresql", port=server.port, config={"database": "postgres", "user": "controlplane"})
    transport = make_transport(place)
    assert isinstance(transport, PostgresqlTransport)
    await transport.open()
    assert (await transport.ask(Asked([("select 1 as n", None)]))).rows == [{"n": 1}]
    master = psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))
    everyone = [master, *master.children()]
    try:
        for process in everyone:
            process.suspend()
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await transport.ask(Asked([("select 2", None)]))
        assert time.monotonic() - started < 4
    finally:
        for process in everyone:
            process.resume()
        await transport.aclose()


def test_redis_over_tls_is_verified(admin: Caller, authority: CertificateAuthority, tmp_path: Path) -> None:
    if not Redis.installed():
        not_installed("redis-server", "redis-server")
    with Redis(tmp_path, authority.issue("localhost")) as server:
        secret = {"username": "default", "password": server.password}
        assert admin("POST", "credentials/", {"name": "key", "kind": "basic", "data": secret}).status == 201
        ca, found = {"ca": authority.pem}, []
        for name, tls in (("good", ca), ("unknown", {}), ("named", ca | {"server_name": "x"})):
            pk = register(
                admin, interface=name, protocol="redis", port=server.port, config={"tls": tls}, credential="key"
            )
            answer = admin("POST", f"endpoints/{pk}/probe/").json
            found.append((answer["ok"], answer["error_class"]))

    assert found == [(True, ""), (False, "tls"), (False, "tls")]


async def test_redis_without_a_farewell_leaves_nothing_open(authority: CertificateAuthority, tmp_path: Path) -> None:
    """Over TLS, too, the line is cut once nobody asks: a peer that hangs keeps no socket of ours."""
    if not Redis.installed():
        not_installed("redis-server", "redis-server")
    with Redis(tmp_path, authority.issue("localhost")) as server:
        secret = Secret("1", "key", "basic", {"username": "default", "password": server.password})
        config = {"tls": {"ca": authority.pem}}
        transport = make_transport(
            address(protocol="redis", host="localhost", port=server.port, config=config, credential=secret)
        )
        assert isinstance(transport, RedisTransport)
        await transport.open()
        assert await transport.ask(["PING"]) == "PONG"
        assert lines_to(server.port) == 1

        server.process.suspend()
        await transport.aclose()
        await asyncio.sleep(0)  # sockets are closed in the loop's next round
        assert lines_to(server.port) == 0


@pytest.mark.parametrize("protocol", ["postgresql", "redis"])
async def test_what_is_sent_is_refused_for_good(protocol: str) -> None:
    """Should a delivery ever come to one, it dies at once and says why."""
    transport = make_transport(address(protocol=protocol, port=1, config={"database": "x"}))
    await transport.open()
    with pytest.raises(TransportError, match="takes no messages") as caught:
        await transport.send(outgoing())
    await transport.aclose()

    assert (caught.value.error_class, caught.value.advice) == (ErrorClass.CLIENT_ERROR, "dead")
