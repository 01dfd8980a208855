"""Callers of the registry: keys of every role and team, speaking to the real URLs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from django.contrib.auth.models import Group
from django.test import Client

from endpoints import services
from endpoints.access.principal import COMMAND
from endpoints.models import System
from tests.servers.fixtures import http_receiver  # noqa: F401


@dataclass
class Answer:
    """What came back: status, headers and the JSON in it."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Caller:
    """Speaks to the API with one key, or with none."""

    def __init__(self, key: str = "") -> None:
        self.key = key
        self.client = Client(headers={"Authorization": f"Bearer {key}"} if key else {}, raise_request_exception=False)

    def __call__(self, method: str, path: str, data: Any = None, *, raw: bytes | None = None, **headers: str) -> Answer:
        body = raw if raw is not None else b"" if data is None else orjson.dumps(data)
        url = path if path.startswith("/") else f"/api/v1/{path}"
        found = self.client.generic(
            method, url, body, headers.pop("content_type", "application/json"), headers=headers or None
        )
        body = b"".join(found.streaming_content) if found.streaming else found.content
        return Answer(found.status_code, found.headers, body)


@pytest.fixture
def caller(db: None) -> Callable[..., Caller]:
    """Return a maker of callers: `caller("editor", team=..., system=...)`."""

    def make(role: str = "admin", *, team: Group | None = None, system: System | None = None) -> Caller:
        return Caller(services.create_api_key(f"test-{role}", role, by=COMMAND, team=team, system=system)[1])

    return make


@pytest.fixture
def admin(caller: Callable[..., Caller]) -> Caller:
    return caller("admin")


@pytest.fixture
def red(db: None) -> Group:
    return Group.objects.create(name="Red")


@pytest.fixture
def blue(db: None) -> Group:
    return Group.objects.create(name="Blue")


@pytest.fixture
def register(admin: Caller) -> Callable[..., Any]:
    """Return a function that posts a row as an admin and returns what the API says of it."""

    def post(resource: str, **fields: Any) -> Any:
        answer = admin("POST", f"{resource}/", fields)
        assert answer.status == 201, answer.body
        return answer.json

    return post
