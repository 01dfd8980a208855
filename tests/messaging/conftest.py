"""Callers of each role."""

import pytest

from tests.messaging.api_client import Api
from tests.messaging.factories import make_key


@pytest.fixture
def admin(db: None) -> Api:
    return Api(make_key("admin"))


@pytest.fixture
def operator(db: None) -> Api:
    return Api(make_key("operator"))


@pytest.fixture
def viewer(db: None) -> Api:
    return Api(make_key("viewer"))
