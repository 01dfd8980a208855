"""One stack per engine with its listeners open, for tests that break no process."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.conftest import on
from tests.listening.clients import Line, when_open
from tests.servers.ports import free_port
from tests.stack import Databases, Stack


class Ways(Stack):
    """A stack with web and edge running; listeners are registered over REST and followed."""

    def listener(self, slug: str, **fields: Any) -> dict[str, Any]:
        """Register a listener and return it as the API shows it, once it is open."""
        if fields.get("kind") != "hook":
            fields.setdefault("port", free_port())
        answer = self.api("POST", "listeners/", json={"slug": slug, **fields})
        assert answer.status_code == 201, answer.text
        made = dict(answer.json())
        if made["kind"] == "tcp" and made["enabled"]:
            when_open(made["port"])
        elif made["kind"] == "udp":
            self.wait_for(lambda: self.seen(slug)["state"] == "open", 20, f"{slug} open")
        return made

    def seen(self, slug: str) -> dict[str, Any]:
        """Return what is seen of a listener."""
        return dict(self.api("GET", f"listeners/{slug}/").json()["seen"])

    def signing_key(self, slug: str) -> dict[str, str]:
        done = self.command("create_signing_key", slug, "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def payloads(self, slug: str) -> list[bytes]:
        """Return the payloads of a system's messages, in the order they were stored."""
        rows = self.sql(
            "SELECT m.payload FROM messaging_message m JOIN endpoints_system s ON s.id = m.source_id "
            "WHERE s.slug = ? ORDER BY m.position",
            slug,
        )
        return [bytes(payload) for (payload,) in rows]


@pytest.fixture(autouse=True)
def closed_sockets() -> Iterator[None]:
    """Close what a test opened."""
    yield
    while Line.opened:
        Line.opened.pop().close()


@pytest.fixture(scope="session", params=[on("sqlite"), on("postgresql")])
def ways(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """Yield a stack that tests share: each brings systems and listeners of its own."""
    engine = {"sqlite": "sqlite_databases", "postgresql": "postgres_databases"}[request.param]
    databases: Databases = request.getfixturevalue(engine)
    with databases.fresh() as url:
        stack = Ways(tmp_path_factory.mktemp("ways") / "var", url)
        try:
            stack.start("web")
            stack.start("edge")
            yield stack
        finally:
            stack.close()
