"""Tokens whose keys the issuer publishes: fetched once, renewed when a new one appears, never trusted blindly."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from endpoints.access import tokens
from endpoints.errors import Unauthenticated
from tests.endpoints.conftest import Caller
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver

pytestmark = pytest.mark.django_db
KEYS = {name: rsa.generate_private_key(65537, 2048) for name in ("one", "two")}


def published(*names: str, **more: Any) -> Answer:
    """Return the answer of an issuer that publishes these keys."""
    entries = [
        {**jwt.algorithms.RSAAlgorithm.to_jwk(KEYS[name].public_key(), as_dict=True), "kid": name, **more}
        for name in names
    ]
    return Answer(200, body=orjson.dumps({"keys": entries}))


def token(key: str, *, kid: str | None = None, algorithm: str = "RS256", secret: Any = None) -> str:
    claims = {"sub": "anna", "roles": ["viewer"], "iss": "i", "aud": "cp", "exp": int(time.time()) + 60}
    return jwt.encode(claims, secret or KEYS[key], algorithm, headers={"kid": kid or key})


@pytest.fixture
def issuer(http_receiver: HttpReceiver, settings: Any) -> HttpReceiver:
    """Trust the keys that a real server publishes."""
    settings.ENV = replace(
        settings.ENV,
        jwt_issuer="i",
        jwt_audience="cp",
        jwt_key="",
        jwt_jwks_url=f"{http_receiver.url}/jwks",
        jwt_algorithms=["RS256", "HS256"],
    )
    http_receiver.answer(published("one"))
    return http_receiver


@pytest.fixture
def status(db: None) -> Callable[[str], int]:
    return lambda text: Caller(text)("GET", "systems/").status


def test_the_issuers_keys_are_fetched_once_for_many_tokens(issuer: HttpReceiver, status: Callable[[str], int]) -> None:
    assert [status(token("one")) for _ in range(3)] == [200, 200, 200]
    assert len(issuer.received) == 1


def test_a_made_up_kid_does_not_make_us_ask_again_and_again(issuer: HttpReceiver, status: Callable[[str], int]) -> None:
    assert status(token("one")) == 200
    assert {status(token("one", kid=f"made-up-{index}")) for index in range(5)} == {401}
    assert len(issuer.received) == 1


def test_a_key_of_another_is_refused_though_it_names_a_published_one(
    issuer: HttpReceiver, status: Callable[[str], int]
) -> None:
    assert status(token("two", kid="one")) == 401


def test_a_published_symmetric_key_is_not_a_key(issuer: HttpReceiver, status: Callable[[str], int]) -> None:
    """Everyone could sign with it."""
    shared = b"s" * 32
    entry = {"kty": "oct", "kid": "shared", "alg": "HS256", "k": "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M"}
    issuer.answer(Answer(200, body=orjson.dumps({"keys": [entry, *orjson.loads(published("one").body)["keys"]]})))
    assert status(token("one", kid="shared", algorithm="HS256", secret=shared)) == 401
    assert status(token("one")) == 200


@pytest.mark.parametrize("answer", [500, Answer(200, body=b"<html>"), Answer(200, body=b"[]")])
def test_an_issuer_that_is_down_is_a_503_with_a_time_to_come_back(
    issuer: HttpReceiver, status: Callable[[str], int], answer: Any
) -> None:
    issuer.answer(answer)
    found = Caller(token("one"))("GET", "systems/")
    assert (found.status, found.headers["retry-after"]) == (503, "5")
    assert status(token("one")) == 503
    assert len(issuer.received) == 1


def test_a_new_key_of_the_issuer_is_found_within_half_a_minute(issuer: HttpReceiver, settings: Any) -> None:
    now = [1000.0]
    keys, url = tokens.KeySet(clock=lambda: now[0]), settings.ENV.jwt_jwks_url
    assert keys.key({"kid": "one"}, url)
    issuer.answer(published("one", "two"))

    with pytest.raises(Unauthenticated):
        keys.key({"kid": "two"}, url)
    now[0] += tokens.JWKS_RETRY_S
    assert keys.key({"kid": "two"}, url)


def test_known_keys_outlive_an_issuer_that_goes_down(issuer: HttpReceiver, settings: Any) -> None:
    now = [1000.0]
    keys, url = tokens.KeySet(clock=lambda: now[0]), settings.ENV.jwt_jwks_url
    keys.key({"kid": "one"}, url)
    issuer.answer(500)

    now[0] += tokens.JWKS_TTL_S
    assert keys.key({"kid": "one"}, url)
    assert len(issuer.received) == 2
