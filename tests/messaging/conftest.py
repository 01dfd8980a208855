"""Callers of each role."""

import pytest

from messaging.engine import burial
from tests.messaging.api_client import Api
from tests.messaging.factories import make_key


@pytest.fixture
def fresh_engine() -> None:
    """Let the engine of this process remember no groups of another test's database."""
    burial.forget()


@pytest.fixture
def admin(db: None) -> Api:
    return Api(make_key("admin"))


@pytest.fixture
def operator(db: None) -> Api:
    return Api(make_key("operator"))


@pytest.fixture
def viewer(db: None) -> Api:
    return Api(make_key("viewer"))
