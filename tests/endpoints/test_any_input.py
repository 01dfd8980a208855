"""Whatever JSON a client sends to the registry: never a 5xx, and every list can still be read."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoints.serializers import CredentialSerializer, EndpointSerializer, KeySerializer, SystemSerializer
from tests.endpoints.conftest import Caller

pytestmark = pytest.mark.django_db

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", " ", "a", "main", "A" * 300, "é", "\U0001f600", "\u202e", "../..", "${{ message.x }}", "[::1]"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
JSON = st.recursive(
    ODD, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3)
)
SHAPES = {
    "systems": (SystemSerializer, {"slug": "fuzz", "name": "F"}),
    "endpoints": (EndpointSerializer, {"system": "erp", "protocol": "http", "host": "127.0.0.1", "name": "fuzz"}),
    "credentials": (CredentialSerializer, {"name": "fuzz", "kind": "bearer", "data": {"token": "t"}}),
    "keys": (KeySerializer, {"name": "fuzz", "role": "viewer"}),
}


@pytest.mark.parametrize("resource", SHAPES)
def test_no_value_of_any_field_breaks_the_registry(admin: Caller, register: Callable[..., Any], resource: str) -> None:
    serializer, sound = SHAPES[resource]
    register("systems", slug="erp", name="ERP")
    fields = st.sampled_from(sorted(serializer.Meta.fields))

    @settings(
        max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(st.dictionaries(fields, JSON, min_size=1, max_size=3))
    def post(odd: dict[str, Any]) -> None:
        answer = admin("POST", f"{resource}/", {**sound, **odd})
        assert answer.status < 500, answer.body
        assert answer.status == 201 or answer.headers["content-type"] == "application/problem+json"

    post()
    assert admin("GET", f"{resource}/?page_size=500").status == 200
    assert admin("GET", "audit/?page_size=500").status == 200


@pytest.mark.parametrize("body", [b"1", b"[]", b'"x"', b"null", b"true", b"[{}]", b"{}"])
@pytest.mark.parametrize(
    "path", ["systems/", "endpoints/", "credentials/", "keys/", "systems/erp/pause/", "systems/erp/resume/"]
)
def test_a_body_that_is_no_object_is_a_400(admin: Caller, register: Callable[..., Any], path: str, body: bytes) -> None:
    register("systems", slug="erp", name="ERP")
    answer = admin("POST", path, raw=body)
    assert answer.status == 400 or (answer.status == 200 and body == b"{}")
