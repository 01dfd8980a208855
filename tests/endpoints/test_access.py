"""Who may do what: roles, teams, keys and tokens, through the real URLs and commands."""

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from endpoints import services
from endpoints.access import secrets
from endpoints.access.authenticate import aauthenticate, authenticate
from endpoints.access.principal import COMMAND, ROLES
from endpoints.access.roles import MAY
from endpoints.errors import Unauthenticated
from endpoints.models import ApiKey, AuditEntry, Credential, Membership, SigningKey, System
from tests.endpoints.conftest import Caller

pytestmark = pytest.mark.django_db
HTTP = {"protocol": "http", "host": "127.0.0.1", "port": 9}
CANARY = "canary-7f3a9e-secret"


@pytest.fixture
def rows(register: Callable[..., Any]) -> dict[str, Any]:
    """Register one row of each kind, and say the path of each."""
    register("systems", slug="erp", name="ERP")
    endpoint = register("endpoints", system="erp", **HTTP)
    credential = register("credentials", name="token", kind="bearer", data={"token": "t"})
    key = register("keys", name="k", role="viewer")
    return {
        "systems": "systems/erp/",
        "endpoints": f"endpoints/{endpoint['id']}/",
        "credentials": f"credentials/{credential['id']}/",
        "keys": f"keys/{key['id']}/",
        "audit": f"audit/{AuditEntry.objects.first().pk}/",
    }


VERBS = {"list": "GET", "retrieve": "GET", "create": "POST", "update": "PUT", "partial_update": "PATCH"}
VERBS |= {"destroy": "DELETE", "dependents": "GET"}
REGISTRY = ("systems", "endpoints", "credentials", "keys", "audit")
ON_ALL = ("list", "create", "pause_all", "resume_all")  # of no one row
MATRIX = [(resource, action) for resource in REGISTRY for action in MAY[resource]]


@pytest.mark.parametrize(("resource", "action"), MATRIX)
def test_each_action_is_refused_to_every_role_below_its_row(
    caller: Callable[..., Caller], rows: dict[str, Any], resource: str, action: str
) -> None:
    needed = ROLES.index(MAY[resource][action])
    path = f"{resource}/" if action in ON_ALL else rows[resource]
    path += "" if action in VERBS else f"{action}/"
    for role in ROLES:
        answer = caller(role)(VERBS.get(action, "POST"), path, {} if action not in ("list", "retrieve") else None)
        assert (answer.status == 403) == (ROLES.index(role) < needed), (role, answer.body)
        assert answer.status < 500


def test_every_registry_url_has_a_row_in_the_role_table() -> None:
    from controlplane.api import router

    for prefix, view, _ in router.registry:
        for route in router.get_routes(view):
            for action in route.mapping.values():
                if hasattr(view, action):
                    assert action in MAY[view.resource], f"{prefix}: {action}"


@pytest.fixture
def reds_rows(register: Callable[..., Any], red: Group) -> dict[str, str]:
    register("systems", slug="red-app", name="R", owner="Red")
    register("credentials", name="red-token", kind="bearer", data={"token": "t"}, owner="Red")
    endpoint = register("endpoints", system="red-app", credential="red-token", **HTTP)
    credential = Credential.objects.get()
    return {
        "systems": "systems/red-app/",
        "endpoints": f"endpoints/{endpoint['id']}/",
        "credentials": f"credentials/{credential.pk}/",
    }


@pytest.mark.parametrize("resource", ["systems", "endpoints", "credentials"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_teams_row_does_not_exist(
    caller: Callable[..., Caller], reds_rows: dict[str, str], blue: Group, resource: str, method: str
) -> None:
    stranger = caller("editor", team=blue)
    assert stranger(method, reds_rows[resource], {}).status == 404
    assert stranger("GET", f"{resource}/").json["results"] == []


def test_an_editor_makes_rows_for_the_own_team_only(caller: Callable[..., Caller], red: Group, blue: Group) -> None:
    editor = caller("editor", team=red)

    made = editor("POST", "systems/", {"slug": "mine", "name": "M"})
    assert (made.status, made.json["owner"]) == (201, "Red")
    assert editor("POST", "systems/", {"slug": "theirs", "name": "T", "owner": "Blue"}).status == 403
    assert editor("PATCH", "systems/mine/", {"owner": "Blue"}).status == 403
    assert editor("PATCH", "systems/mine/", {"owner": None}).status == 403


def test_an_editor_cannot_use_another_teams_secret_by_any_name(
    caller: Callable[..., Caller], register: Callable[..., Any], reds_rows: dict[str, str], blue: Group
) -> None:
    register("systems", slug="blue-app", name="B", owner="Blue")
    register("credentials", name="red-hmac", kind="hmac", data={"secret": "s" * 32}, owner="Red")
    editor = caller("editor", team=blue)

    for fields in ({"credential": "red-token"}, {"config": {"signing_credential": "red-hmac"}}):
        assert editor("POST", "endpoints/", {"system": "blue-app", **HTTP, **fields}).status == 400


def test_a_teams_secret_does_not_serve_a_system_that_is_everyones(
    admin: Caller, register: Callable[..., Any], reds_rows: dict[str, str]
) -> None:
    """Everyone may edit such a system, and so send the secret wherever they like."""
    register("systems", slug="shared", name="S")
    assert admin("POST", "endpoints/", {"system": "shared", "credential": "red-token", **HTTP}).status == 400
    assert admin("PATCH", "systems/red-app/", {"owner": None}).status == 409
    assert admin("PATCH", reds_rows["credentials"], {"owner": None}).status == 200


def test_a_key_never_reaches_further_than_its_maker(
    caller: Callable[..., Caller], register: Callable[..., Any], red: Group, blue: Group
) -> None:
    register("systems", slug="blue-app", name="B", owner="Blue")
    maker = caller("admin", team=red)

    assert maker("POST", "keys/", {"name": "n", "role": "admin", "team": "Red"}).status == 201
    assert maker("POST", "keys/", {"name": "n", "role": "viewer"}).status == 403
    assert maker("POST", "keys/", {"name": "n", "role": "viewer", "team": "Blue"}).status == 403
    assert maker("POST", "keys/", {"name": "n", "role": "viewer", "system": "blue-app"}).status in (400, 403)


def test_a_bound_key_is_its_system_and_sees_its_systems_team(
    caller: Callable[..., Caller], reds_rows: dict[str, str], register: Callable[..., Any], blue: Group
) -> None:
    register("systems", slug="blue-app", name="B", owner="Blue")
    from endpoints.models import System

    bound = caller("viewer", system=System.objects.get(slug="red-app"))
    principal = authenticate(bound.key)

    assert (principal.system_slug, principal.team_ids) == ("red-app", frozenset({Group.objects.get(name="Red").pk}))
    assert [row["slug"] for row in bound("GET", "systems/").json["results"]] == ["red-app"]


def test_a_revoked_key_stops_within_a_second(admin: Caller, caller: Callable[..., Caller]) -> None:
    """Nothing tells the other processes; what they remember just does not live longer."""
    victim = caller("viewer")
    assert victim("GET", "systems/").status == 200
    key = ApiKey.objects.get(name="test-viewer")

    # Behind the back of this process, as another process would do it.
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
    revoked_at = time.monotonic()
    asked_at = revoked_at
    while victim("GET", "systems/").status == 200:
        assert asked_at - revoked_at < 1.0
        asked_at = time.monotonic()


def test_a_revoked_key_stays_revoked_and_is_audited_once(admin: Caller, register: Callable[..., Any]) -> None:
    key = register("keys", name="k", role="viewer")
    first = admin("POST", f"keys/{key['id']}/revoke/").json["revoked_at"]
    assert admin("POST", f"keys/{key['id']}/revoke/").json["revoked_at"] == first
    assert AuditEntry.objects.filter(action="revoke").count() == 1
    assert Caller(key["key"])("GET", "systems/").status == 401


@pytest.mark.parametrize("spoil", [lambda k: k[:-1], lambda k: k + "x", lambda k: k.upper(), lambda k: "cp_" + k])
def test_a_spoiled_key_is_refused(admin: Caller, spoil: Callable[[str], str]) -> None:
    assert Caller(spoil(admin.key))("GET", "systems/").status == 401


def test_an_expired_key_is_refused(admin: Caller, register: Callable[..., Any]) -> None:
    key = register("keys", name="k", role="viewer", expires_at="2099-01-01T00:00:00Z")
    ApiKey.objects.filter(pk=key["id"]).update(expires_at=timezone.now())
    assert Caller(key["key"])("GET", "systems/").status == 401


def test_two_headers_that_disagree_are_refused(admin: Caller) -> None:
    assert admin("GET", "systems/", **{"X-API-Key": admin.key}).status == 200
    assert admin("GET", "systems/", **{"X-API-Key": "cp_other"}).status == 401
    assert Caller()("GET", "systems/", **{"X-API-Key": admin.key}).status == 200


@pytest.fixture
def committed_key(transactional_db: None) -> str:
    """Make a key that other threads and their connections see too."""
    return services.create_api_key("a", "viewer", by=COMMAND)[1]


async def test_the_async_door_knows_the_same_callers(committed_key: str) -> None:
    """And gives its connection back: a leak would keep the test database from being dropped."""
    found = await asyncio.gather(*(aauthenticate(committed_key) for _ in range(20)))

    assert {principal.role for principal in found} == {"viewer"}
    with pytest.raises(Unauthenticated):
        await aauthenticate(committed_key + "x")


def test_a_key_in_use_is_marked(committed_key: str) -> None:
    """Beside the request, not within it."""
    authenticate(committed_key)

    deadline = time.monotonic() + 30
    while (used_at := ApiKey.objects.get().last_used_at) is None:
        assert time.monotonic() < deadline
    assert used_at <= timezone.now()


def test_a_session_may_what_its_membership_says_and_needs_the_csrf_token(db: None) -> None:
    user = User.objects.create_user("anna", password="x")
    Membership.objects.create(user=user, role="editor")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)

    assert client.get("/api/v1/systems/").status_code == 200
    assert client.get("/api/v1/keys/").status_code == 403
    body = orjson.dumps({"slug": "a", "name": "A"})
    assert client.post("/api/v1/systems/", body, "application/json").status_code == 403


def test_a_secret_is_in_no_answer_no_audit_and_no_row(
    admin: Caller, register: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    register("systems", slug="erp", name="ERP")
    made = register("credentials", name="c", kind="bearer", data={"token": CANARY})
    register("endpoints", system="erp", credential="c", **HTTP)
    path = f"credentials/{made['id']}/"
    answers = [
        admin("GET", path),
        admin("PATCH", path, {"data": {"token": CANARY + "2"}}),
        admin("PATCH", path, {"kind": "basic", "data": {"username": "u", "password": CANARY, "x": CANARY}}),
        admin("GET", "credentials/"),
        admin("GET", "endpoints/"),
        admin("GET", "audit/"),
    ]

    assert all(CANARY.encode() not in answer.body for answer in answers)
    assert all("data" not in answer.json for answer in answers[:2])
    assert CANARY not in caplog.text
    assert CANARY.encode() not in bytes(Credential.objects.get().data)
    actions = list(AuditEntry.objects.filter(object_type="credential").values_list("action", "changes"))
    assert ("set_secret", {"data": ["***", "***"]}) in actions
    assert secrets.decrypt(Credential.objects.get().data) == {"token": CANARY + "2"}


def test_secrets_rotate_to_the_newest_key_and_stay_readable(register: Callable[..., Any], with_env: Any) -> None:
    register("credentials", name="c", kind="bearer", data={"token": "t"})
    system = System.objects.create(slug="signs", name="Signs")
    _, secret = services.create_signing_key(system, by=COMMAND)
    new_key = base64.urlsafe_b64encode(b"n" * 32).decode()
    with_env(encryption_keys=[f"new:{new_key}", *settings.ENV.encryption_keys])

    call_command("rotate_keys")

    with_env(encryption_keys=[f"new:{new_key}"])
    stored = Credential.objects.get()
    assert (stored.encryption_key_id, secrets.decrypt(stored.data)) == ("new", {"token": "t"})
    signing = SigningKey.objects.get()
    assert (signing.encryption_key_id, secrets.decrypt(signing.secret)) == ("new", {"secret": secret})


def test_a_missing_encryption_key_is_named(register: Callable[..., Any], with_env: Any) -> None:
    register("credentials", name="c", kind="bearer", data={"token": "t"})
    lost = Credential.objects.get().encryption_key_id
    with_env(encryption_keys=[f"new:{base64.urlsafe_b64encode(b'n' * 32).decode()}"])

    with pytest.raises(secrets.SecretsUnavailable, match=lost):
        secrets.decrypt(Credential.objects.get().data)


def test_the_commands_make_and_revoke_a_key_that_works(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("create_api_key", "ci", "--role", "viewer", "--expires", "30d", "--json")
    made = orjson.loads(capsys.readouterr().out)
    assert Caller(made["key"])("GET", "systems/").status == 200

    call_command("revoke_api_key", made["id"])
    assert ApiKey.objects.get().revoked_at is not None


@pytest.mark.parametrize(
    "line",
    [
        ["create_api_key", "x", "--role", "viewer", "--system", "nobody"],
        ["create_api_key", "x", "--role", "viewer", "--team", "nobody"],
        ["create_api_key", "x", "--role", "viewer", "--expires", "yesterday"],
        ["create_api_key", "x", "--role", "viewer", "--expires", "2020-01-01"],
        ["revoke_api_key", "nonsense"],
        ["pause", "nobody"],
        ["resume", "nobody/main"],
    ],
)
def test_a_command_that_is_refused_says_so_in_one_line_and_ends_with_2(db: None, line: list[str]) -> None:
    with pytest.raises(CommandError) as caught:
        call_command(*line)
    assert (caught.value.returncode, str(caught.value).count("\n")) == (2, 0)


@pytest.fixture
def with_env(settings: Any) -> Callable[..., None]:
    """Return a function that changes the environment for one test."""

    def change(**fields: Any) -> None:
        settings.ENV = replace(settings.ENV, **fields)

    return change


PRIVATE = rsa.generate_private_key(65537, 2048)
PUBLIC_PEM = (
    PRIVATE.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
OTHER = rsa.generate_private_key(65537, 2048)
OTHER_JWK = jwt.algorithms.RSAAlgorithm.to_jwk(OTHER.public_key(), as_dict=True)


@pytest.fixture
def issuer(with_env: Any) -> None:
    """Trust one issuer, by its public key."""
    with_env(
        jwt_issuer="https://issuer", jwt_audience="cp", jwt_key=PUBLIC_PEM, jwt_jwks_url="", jwt_algorithms=["RS256"]
    )


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    base = {"sub": "anna", "roles": ["viewer"], "iss": "https://issuer", "aud": "cp", "exp": now + 60, "iat": now}
    return {name: value for name, value in (base | changes).items() if value is not None}


def signed(key: Any = PRIVATE, algorithm: str = "RS256", headers: Any = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers=headers)


def confused() -> str:
    """Return a token signed with the public key's text as an HMAC secret (CVE-2015-9235)."""
    import hashlib
    import hmac

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = part(orjson.dumps({"alg": "HS256", "typ": "JWT"})) + b"." + part(orjson.dumps(claims()))
    return (head + b"." + part(hmac.digest(PUBLIC_PEM.encode(), head, hashlib.sha256))).decode()


ATTACKS: dict[str, Callable[[], str]] = {
    "alg none": lambda: jwt.encode(claims(), None, "none"),
    "algorithm confusion": confused,
    "another key": lambda: signed(OTHER),
    "another algorithm of the same key": lambda: signed(algorithm="RS512"),
    "jku": lambda: signed(headers={"jku": "https://evil/keys"}),
    "x5u": lambda: signed(headers={"x5u": "https://evil/cert"}),
    "embedded jwk": lambda: signed(
        OTHER, headers={"jwk": jwt.algorithms.RSAAlgorithm.to_jwk(OTHER.public_key(), True)}
    ),
    "expired": lambda: signed(exp=int(time.time()) - 3600),
    "no expiry": lambda: signed(exp=None),
    "an expiry in words": lambda: signed(exp="9999999999"),
    "an expiry beyond all time": lambda: signed(exp=10**400),
    "no end of expiry": lambda: signed(exp=float("inf")),
    "begins when time ends": lambda: signed(nbf=float("inf")),
    "not yet": lambda: signed(nbf=int(time.time()) + 3600),
    "another issuer": lambda: signed(iss="https://evil"),
    "no issuer": lambda: signed(iss=None),
    "another audience": lambda: signed(aud="other"),
    "no subject": lambda: signed(sub=None),
    "no role": lambda: signed(roles=[]),
    "a role of another product": lambda: signed(roles=["superuser"]),
    "roles of a wrong type": lambda: signed(roles=[{"admin": True}]),
    "unknown team": lambda: signed(team="Nobody"),
    "unknown system": lambda: signed(system="nobody"),
    "control characters": lambda: signed(sub="a\nadmin"),
    "cut": lambda: signed()[:-4],
    "not base64": lambda: "a.b.c",
    "only dots": lambda: "..",
    "very long": lambda: "x" * 100_000,
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_a_token_that_is_not_exactly_right_is_a_401(db: None, issuer: None, attack: Callable[[], str]) -> None:
    assert Caller(signed())("GET", "systems/").status == 200
    assert Caller(attack())("GET", "systems/").status == 401


def test_a_token_says_role_team_system_and_recipient(register: Callable[..., Any], issuer: None, red: Group) -> None:
    register("systems", slug="erp", name="ERP")
    token = signed(roles=["other", "operator"], team="Red", system="erp", recipient="anna@phone")
    found = authenticate(token)

    assert (found.label, found.role, found.team_ids) == ("token:anna", "operator", frozenset({red.pk}))
    assert (found.system_slug, found.recipient) == ("erp", "anna@phone")


def test_the_check_names_a_key_that_was_dropped_too_early(register: Callable[..., Any], with_env: Any) -> None:
    register("credentials", name="c", kind="bearer", data={"token": "t"})
    assert run_checks(tags=["database"], databases=["default"]) == []

    lost = Credential.objects.get().encryption_key_id
    with_env(encryption_keys=[f"new:{base64.urlsafe_b64encode(b'n' * 32).decode()}"])
    assert [lost in str(found) for found in run_checks(tags=["database"], databases=["default"])] == [True]
