"""Receivers, and one running stack per engine for the many tests that break no process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.plain_server import PlainServer
from tests.servers.fixtures import http_receiver
from tests.servers.nginx import Nginx
from tests.stack import Databases, Stack

__all__ = ["http_receiver"]


def on(engine: str) -> Any:
    """Return the parameter of an engine; its tests stay together, so that each engine needs one stack."""
    return pytest.param(engine, marks=[pytest.mark.stack, pytest.mark.xdist_group(f"shared-{engine}")])


@pytest.fixture(scope="session", params=[on("sqlite"), on("postgresql")])
def shared_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield a stack that tests share: each brings systems of its own, and none stops a process."""
    engine = {"sqlite": "sqlite_databases", "postgresql": "postgres_databases"}[request.param]
    databases: Databases = request.getfixturevalue(engine)
    with databases.fresh() as url:
        stack = Stack(tmp_path_factory.mktemp("shared") / "var", url)
        try:
            stack.start("web")
            stack.start("deliver")
            yield stack
        finally:
            stack.close()


@pytest.fixture
def plain_receiver(tmp_path: Path) -> Iterator[Nginx | PlainServer]:
    """Yield a receiver that this project did not write: nginx, or Python's http.server."""
    kind: Any = Nginx if Nginx.installed() else PlainServer
    with kind(tmp_path / "receiver") as receiver:
        yield receiver
