"""Real databases and metrics servers as systems that suites ask: fixtures for a conftest to take."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.endpoints.conftest import Caller
from tests.servers.absence import not_installed
from tests.servers.grafana import FakeGrafana
from tests.servers.prometheus import Prometheus
from tests.servers.redis import Redis

__all__ = ["cache", "database", "grafana", "metrics", "prometheus"]

SCHEMA = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (
    id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers,
    state text NOT NULL CHECK (state IN ('new', 'paid')), total numeric(10, 2) NOT NULL
);
INSERT INTO customers VALUES (1, 'Ada'), (2, 'Grace');
INSERT INTO orders VALUES (1, 1, 'new', 12.50), (2, 1, 'paid', 3), (3, 2, 'paid', 99.99);
"""


@dataclass
class Database:
    """A database of a test's own on a real server, and how to look into it past the product."""

    url: str

    def sql(self, statement: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []

    @property
    def endpoint(self) -> dict[str, Any]:
        parts = urlsplit(self.url)
        config = {"database": parts.path.removeprefix("/")}
        place = {"host": parts.hostname, "port": parts.port, "config": config}
        return {"interface": "database", "protocol": "postgresql", "use": ["probe", "test"], **place}


@contextmanager
def fresh_database(server: str, name: str) -> Iterator[Database]:
    whole = Database(server)
    whole.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    whole.sql(f"CREATE DATABASE {name}")
    try:
        yield Database(urlsplit(server)._replace(path=f"/{name}").geturl())
    finally:
        whole.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def database(admin: Caller, postgres_url: str) -> Iterator[Database]:
    """Return a database with a little in it, registered as `orders/database` with a credential."""
    with fresh_database(postgres_url, f"suite_{os.getpid()}") as made:
        made.sql(SCHEMA)
        parts = urlsplit(made.url)
        secret = {"username": parts.username, "password": parts.password}
        assert admin("POST", "credentials/", {"name": "orders-db", "kind": "basic", "data": secret}).status == 201
        assert admin("POST", "systems/", {"slug": "orders", "name": "Orders", "kind": "database"}).status == 201
        wanted = {"system": "orders", "credential": "orders-db", **made.endpoint}
        assert (answer := admin("POST", "endpoints/", wanted)).status == 201, answer.json
        yield made


@pytest.fixture
def cache(admin: Caller, tmp_path: Path) -> Iterator[Redis]:
    """Return a Redis, registered as `cache`."""
    if not Redis.installed():
        not_installed("redis-server", "redis-server")
    with Redis(tmp_path) as server:
        secret = {"username": "default", "password": server.password}
        assert admin("POST", "credentials/", {"name": "cache-key", "kind": "basic", "data": secret}).status == 201
        assert admin("POST", "systems/", {"slug": "cache", "name": "Cache", "kind": "cache"}).status == 201
        wanted = {"system": "cache", "protocol": "redis", "host": "127.0.0.1", "port": server.port}
        wanted |= {"credential": "cache-key", "use": ["probe", "test"], "config": {"database": 1}}
        assert (answer := admin("POST", "endpoints/", wanted)).status == 201, answer.json
        yield server


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Return a Prometheus that scrapes itself: it takes a moment to start, and no test changes it."""
    if not Prometheus.installed():
        not_installed("prometheus", "prometheus")
    with Prometheus(tmp_path_factory.mktemp("prometheus"), []) as server:
        yield server


@pytest.fixture
def metrics(admin: Caller, prometheus: Prometheus) -> Prometheus:
    """Return it registered as `metrics`."""
    register_http(admin, "metrics", prometheus.port, "metrics")
    return prometheus


@pytest.fixture
def grafana(admin: Caller) -> Iterator[FakeGrafana]:
    """Return what says that it is not Grafana, registered as `grafana`."""
    with FakeGrafana() as server:
        register_http(admin, "grafana", server.port, "metrics")
        yield server


def register_http(admin: Caller, slug: str, port: int, kind: str) -> None:
    assert admin("POST", "systems/", {"slug": slug, "name": slug, "kind": kind}).status == 201
    wanted = {"system": slug, "protocol": "http", "host": "127.0.0.1", "port": port}
    assert admin("POST", "endpoints/", wanted).status == 201
