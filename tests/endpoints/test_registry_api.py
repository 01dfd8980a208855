"""The registry over REST: fields, values, conflicts, and who may do what to whose rows."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from endpoints.models import AuditEntry, Breaker, Endpoint, System
from messaging.models import Message
from tests.edge.test_strict_json import REFUSED
from tests.endpoints.conftest import Caller

pytestmark = pytest.mark.django_db
HTTP = {"protocol": "http", "host": "127.0.0.1", "port": 9}


def field_names(answer: Any) -> set[str]:
    return {error["field"] for error in answer.json["errors"]}


def test_a_system_is_made_read_changed_and_deleted_by_its_slug(admin: Caller) -> None:
    made = admin("POST", "systems/", {"slug": "billing", "name": "Billing", "tags": ["money"]})
    assert (made.status, made.json["slug"], made.json["tags"]) == (201, "billing", ["money"])

    changed = admin("PATCH", "systems/billing/", {"version": "2"})
    assert (changed.status, changed.json["version"], changed.json["name"]) == (200, "2", "Billing")

    assert admin("DELETE", "systems/billing/").status == 204
    assert admin("GET", "systems/billing/").status == 404


def test_an_endpoint_takes_its_credential_by_name_or_id_and_shows_the_name(register: Callable[..., Any]) -> None:
    register("systems", slug="erp", name="ERP")
    made = register("credentials", name="erp-token", kind="bearer", data={"token": "t"})

    by_name = register("endpoints", system="erp", name="a", credential="erp-token", **HTTP)
    by_id = register("endpoints", system="erp", name="b", credential=made["id"], **HTTP)

    assert by_name["credential"] == by_id["credential"] == "erp-token"


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"slug": "Bad Slug", "name": "x"}, "slug"),
        ({"slug": "ok"}, "name"),
        ({"slug": "ok", "name": "x", "colour": "red"}, "colour"),
        ({"slug": "ok", "name": "x", "created_at": "2026-01-01T00:00:00Z"}, "created_at"),
        ({"slug": "ok", "name": "x", "kind": "toaster"}, "kind"),
        ({"slug": "ok", "name": "x", "tags": "a,b"}, "tags"),
        ({"slug": "ok", "name": "x", "tags": [1]}, "tags"),
        ({"slug": "ok", "name": "x", "metadata": []}, "metadata"),
        ({"slug": "ok", "name": "x", "search_keys": [{"name": "order", "from": "payload.$["}]}, "search_keys"),
        ({"slug": "ok", "name": "x", "search_keys": [{"name": "o", "from": "payload.$[?@.n==1e400]"}]}, "search_keys"),
        ({"slug": "ok", "name": "x", "search_keys": [{"name": "o", "from": "payload.$[1e2]"}]}, "search_keys"),
        (
            {"slug": "ok", "name": "x", "search_keys": [{"name": "o", "from": f"payload.${'[*,*]' * 30}"}]},
            "search_keys",
        ),
        ({"slug": "ok", "name": "x", "search_keys": [{"name": "order", "from": "query.id"}]}, "search_keys"),
        ({"slug": "ok", "name": "x", "depends_on": ["nobody"]}, "depends_on"),
        ({"slug": "ok", "name": "x", "owner": "Nobody"}, "owner"),
        ({"slug": "ok", "name": "x", "runbook_url": "javascript:alert(1)"}, "runbook_url"),
        ({"slug": "ok", "name": "x", "max_message_bytes": 10**9}, "max_message_bytes"),
        ({"slug": "red", "name": "x"}, "slug"),
    ],
)
def test_a_bad_system_field_is_named(admin: Caller, fields: dict[str, Any], at_fault: str) -> None:
    Group.objects.create(name="red")
    answer = admin("POST", "systems/", fields)

    assert answer.status == 400, answer.body
    assert any(name == at_fault or name.startswith(f"{at_fault}.") for name in field_names(answer))
    assert not System.objects.exists()


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"protocol": "smoke"}, "protocol"),
        ({"host": "0x7f.1"}, "host"),
        ({"host": "user@evil"}, "host"),
        ({"host": "a\\b"}, "host"),
        ({"port": 0}, "port"),
        ({"port": 70000}, "port"),
        ({"path": "no-slash"}, "path"),
        ({"path": "/a b"}, "path"),
        ({"path": "/a\\b"}, "path"),
        ({"host": ""}, "host"),
        ({"protocol": "udp", "host": "", "port": 9}, "host"),
        ({"host": "http://erp.example.com/in"}, "host"),
        ({"use": []}, "use"),
        ({"use": ["fly"]}, "use"),
        ({"use": True}, "use"),
        ({"use": 5}, "use"),
        ({"use": [None]}, "use"),
        ({"use": [[]]}, "use"),
        ({"retry_schedule_s": [-1]}, "retry_schedule_s"),
        ({"retry_schedule_s": []}, "retry_schedule_s"),
        ({"outcomes": [{"when": {"status": {"eq": 1}}, "is": "maybe"}]}, "outcomes"),
        ({"outcomes": [{"when": {"colour": {"eq": 1}}, "is": "dead"}]}, "outcomes"),
        ({"config": {"methd": "POST"}}, "config"),
        ({"config": {"signing_credential": "nobody"}}, "config.signing_credential"),
        ({"credential": "nobody"}, "credential"),
        ({"tier": 40000}, "tier"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"max_in_flight": 2000}, "max_in_flight"),
        ({"system": "nobody"}, "system"),
        ({"health": "healthy"}, "health"),
    ],
)
def test_a_bad_endpoint_field_is_named(
    admin: Caller, register: Callable[..., Any], fields: dict[str, Any], at_fault: str
) -> None:
    register("systems", slug="erp", name="ERP")
    answer = admin("POST", "endpoints/", {"system": "erp", **HTTP, **fields})

    assert answer.status == 400, answer.body
    assert any(name.startswith(at_fault) for name in field_names(answer)), answer.body
    assert not Endpoint.objects.exists()


def test_what_is_missing_is_said_as_it_is_to_be_written(admin: Caller, register: Callable[..., Any]) -> None:
    """One line each: a path without its `$`, a port where the protocol has none."""
    keys = [{"name": "order", "from": "payload.order.id"}]
    path = admin("POST", "systems/", {"slug": "crm", "name": "x", "search_keys": keys}).json
    register("systems", slug="erp", name="ERP")
    port = admin("POST", "endpoints/", {"system": "erp", "protocol": "tcp", "host": "127.0.0.1"}).json

    assert path["errors"] == [{"field": "search_keys", "code": "invalid", "detail": "write payload.$.order.id"}]
    assert port["errors"] == [{"field": "port", "code": "required", "detail": "give a port: 'tcp' has none of its own"}]
    for hopeless in ("payload.", "payload.a b", "payload.$["):
        keys = [{"name": "order", "from": hopeless}]
        told = admin("POST", "systems/", {"slug": "crm", "name": "x", "search_keys": keys}).json["errors"][0]["detail"]
        assert "is not a JSONPath" in told
        assert "\n" not in told


def test_a_misspelt_field_and_a_missing_key_are_told_what_was_meant(admin: Caller) -> None:
    """The two commonest first mistakes are answered with what to send instead."""
    misspelt = admin("POST", "systems/", {"slug": "erp", "name": "ERP", "runbok_url": "https://runbooks.example.com"})
    assert (misspelt.status, "did you mean runbook_url?" in misspelt.json["detail"]) == (400, True)

    mistaken = admin("POST", "keys/", {"name": "nightly", "role": "admn"})
    assert (mistaken.status, "'admn' is none of viewer, operator" in mistaken.json["detail"]) == (400, True)

    keyless = Caller()("GET", "systems/")
    assert (keyless.status, "Authorization: Bearer" in keyless.json["detail"]) == (401, True)


@pytest.mark.parametrize("host", ["http://erp.example.com/in", "erp.example.com/in", "erp.example.com:8080"])
def test_an_address_in_the_place_of_a_host_is_told_where_it_goes(
    admin: Caller, register: Callable[..., Any], host: str
) -> None:
    """What people paste first is a URL: they are told of the fields, not of IPv6."""
    register("systems", slug="erp", name="ERP")
    answer = admin("POST", "endpoints/", {"system": "erp", **HTTP, "host": host})

    assert (answer.status, "protocol, port and path are fields of their own" in answer.json["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("bearer", {}),
        ("bearer", {"token": "a\r\nb"}),
        ("bearer", {"token": "x", "more": "y"}),
        ("bearer", "text"),
        ("basic", {"username": "u"}),
        ("mtls", {"cert": "x", "key": "y"}),
        ("oauth2_client", {"token_url": "file:///etc/passwd", "client_id": "a", "client_secret": "b"}),
    ],
)
def test_a_secret_without_the_fields_of_its_kind_is_refused(admin: Caller, kind: str, data: Any) -> None:
    assert admin("POST", "credentials/", {"name": "c", "kind": kind, "data": data}).status == 400


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_bad_json_is_a_400_and_the_lists_stay_readable(admin: Caller, body: bytes) -> None:
    answer = admin("POST", "systems/", raw=body or b" ")

    assert answer.status == 400
    assert admin("GET", "systems/").status == 200


@pytest.mark.parametrize("value", ['"\\ud800"', '"\\u0000"', "1e999", '{"a":1,"a":2}'])
def test_bad_json_within_a_field_never_reaches_a_row(admin: Caller, value: str) -> None:
    body = f'{{"slug":"a","name":"A","metadata":{{"x":{value}}}}}'.encode()
    assert admin("POST", "systems/", raw=body).status == 400
    assert admin("GET", "systems/").json["results"] == []


def test_a_second_row_of_the_same_name_is_a_conflict(admin: Caller, register: Callable[..., Any]) -> None:
    register("systems", slug="erp", name="ERP")
    register("endpoints", system="erp", **HTTP)

    assert admin("POST", "systems/", {"slug": "erp", "name": "again"}).status == 409
    assert admin("POST", "endpoints/", {"system": "erp", **HTTP}).status == 409


def test_a_credential_in_use_cannot_be_deleted_nor_one_named_in_a_config(
    admin: Caller, register: Callable[..., Any]
) -> None:
    register("systems", slug="erp", name="ERP")
    used = register("credentials", name="used", kind="bearer", data={"token": "t"})
    signing = register("credentials", name="signing", kind="hmac", data={"secret": "s" * 32})
    register("endpoints", system="erp", credential="used", config={"signing_credential": "signing"}, **HTTP)

    for row in (used, signing):
        answer = admin("DELETE", f"credentials/{row['id']}/")
        assert (answer.status, answer.json["code"]) == (409, "in_use")


def test_an_endpoint_pauses_until_and_why_and_resumes_clean(admin: Caller, register: Callable[..., Any]) -> None:
    register("systems", slug="erp", name="ERP")
    endpoint = register("endpoints", system="erp", **HTTP)

    paused = admin("POST", f"endpoints/{endpoint['id']}/pause/", {"reason": "leak", "until": "2099-01-01T00:00:00Z"})
    assert (paused.json["state"], paused.json["pause_reason"]) == ("paused", "leak")

    resumed = admin("POST", f"endpoints/{endpoint['id']}/resume/")
    assert (resumed.json["state"], resumed.json["pause_reason"], resumed.json["pause_until"]) == ("enabled", "", None)


def test_one_door_of_a_system_pauses_alone(admin: Caller, register: Callable[..., Any]) -> None:
    register("systems", slug="erp", name="ERP")
    register("endpoints", system="erp", **HTTP)
    register("endpoints", system="erp", interface="orders", **HTTP)

    assert admin("POST", "systems/erp/pause/", {"interface": "orders"}).json["state"] == "active"

    states = {row["interface"]: row["state"] for row in admin("GET", "endpoints/?system=erp").json["results"]}
    assert states == {"main": "enabled", "orders": "paused"}
    assert admin("POST", "systems/erp/pause/", {"interface": "nowhere"}).status == 404


def test_a_retired_system_cannot_be_paused(admin: Caller, register: Callable[..., Any]) -> None:
    register("systems", slug="old", name="Old", state="retired")
    assert admin("POST", "systems/old/pause/", {}).status == 409


def test_systems_are_found_by_kind_tag_capability_and_health(admin: Caller, register: Callable[..., Any]) -> None:
    register("systems", slug="a", name="A", kind="database", tags=["x"], capabilities=["sql"])
    register("systems", slug="b", name="B", tags=["xy"])
    register("endpoints", system="a", **HTTP)
    ill = register("endpoints", system="b", **HTTP)
    Endpoint.objects.filter(pk=ill["id"]).update(health="down")
    register("systems", slug="c", name="C")
    broken = register("endpoints", system="c", **HTTP)
    Breaker.objects.create(pk=broken["id"], state="open", written_at=timezone.now())

    def slugs(query: str) -> list[str]:
        return [row["slug"] for row in admin("GET", f"systems/?{query}").json["results"]]

    assert slugs("kind=database") == slugs("tag=x") == slugs("capability=sql") == slugs("healthy=true") == ["a"]


def test_dependents_are_the_systems_that_name_this_one(admin: Caller, register: Callable[..., Any]) -> None:
    register("systems", slug="db", name="DB")
    register("systems", slug="app", name="App", depends_on=["db"])
    assert [row["slug"] for row in admin("GET", "systems/db/dependents/").json["results"]] == ["app"]


@pytest.mark.parametrize("resource", ["systems", "endpoints", "credentials", "keys", "audit"])
def test_a_list_costs_the_same_queries_however_long(
    admin: Caller, register: Callable[..., Any], django_assert_max_num_queries: Any, resource: str
) -> None:
    for index in range(12):
        register("systems", slug=f"s{index}", name="S", depends_on=[f"s{index - 1}"] if index else [])
        register("credentials", name=f"c{index}", kind="bearer", data={"token": "t"})
        register("endpoints", system=f"s{index}", credential=f"c{index}", **HTTP)
        register("keys", name="k", role="viewer", system=f"s{index}")

    with django_assert_max_num_queries(3):
        assert len(admin("GET", f"{resource}/").json["results"]) >= 12


def test_every_change_is_audited_with_who_what_and_from_to(admin: Caller, register: Callable[..., Any]) -> None:
    register("systems", slug="erp", name="ERP")
    admin("PATCH", "systems/erp/", {"name": "Ledger"})
    admin("POST", "systems/erp/pause/", {"reason": "move"})
    admin("POST", "systems/erp/resume/")
    admin("DELETE", "systems/erp/")

    entries = admin("GET", "audit/?object_type=system").json["results"][::-1]
    assert [row["action"] for row in entries] == ["create", "update", "pause", "resume", "delete"]
    assert entries[1]["changes"] == {"name": ["ERP", "Ledger"]}
    assert {row["actor"] for row in entries} == {"key:test-admin"}


def test_a_change_that_changes_nothing_leaves_no_audit(admin: Caller, register: Callable[..., Any]) -> None:
    register("systems", slug="erp", name="ERP")
    before = AuditEntry.objects.count()
    assert admin("PATCH", "systems/erp/", {"name": "ERP"}).status == 200
    assert AuditEntry.objects.count() == before


def test_the_openapi_document_describes_every_failure(admin: Caller) -> None:
    document = admin("GET", "/api/v1/schema/").json
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in ("get", "post", "put", "patch", "delete"):
                assert {"400", "401", "403", "404", "409", "415", "429"} <= operation["responses"].keys(), (
                    path,
                    method,
                )


def test_the_docs_page_loads_nothing_from_elsewhere(admin: Caller) -> None:
    answer = admin("GET", "/api/v1/docs/")
    assert answer.status == 200
    assert b"https://" not in answer.body.replace(b"https://github.com", b"")


def test_a_post_without_the_last_slash_is_told_the_address(admin: Caller) -> None:
    answer = admin("POST", "/api/v1/systems", {"slug": "a", "name": "A"})
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    assert "/api/v1/systems/" in answer.json["detail"]


PROBLEMS = {
    "bad field": (400, lambda api: api("POST", "systems/", {})),
    "bad filter": (400, lambda api: api("GET", "systems/?colour=red")),
    "no credentials": (401, lambda api: Caller()("GET", "systems/")),
    "wrong key": (401, lambda api: Caller("cp_" + "0" * 32 + "_x")("GET", "systems/")),
    "unknown row": (404, lambda api: api("GET", "systems/nobody/")),
    "unknown path": (404, lambda api: api("GET", "/api/v1/nothing/")),
    "unknown id": (404, lambda api: api("GET", "endpoints/00000000-0000-0000-0000-000000000000/")),
    "wrong method": (405, lambda api: api("POST", "audit/", {})),
    "wrong accept": (406, lambda api: api("GET", "systems/", Accept="text/csv")),
    "too large": (413, lambda api: api("POST", "systems/", raw=b'"' + b"x" * 1_600_000 + b'"')),
    "wrong type": (415, lambda api: api("POST", "systems/", raw=b"<a/>", content_type="text/xml")),
}


@pytest.mark.parametrize(("status", "provoke"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_every_refusal_is_a_problem_of_one_shape(admin: Caller, status: int, provoke: Any) -> None:
    answer = provoke(admin)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "code", "detail", "errors"} == orjson.loads(answer.body).keys()
    assert answer.json["status"] == status
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_a_system_that_sent_messages_cannot_be_deleted(admin: Caller, register: Callable[..., Any]) -> None:
    register("systems", slug="erp", name="ERP")
    now = timezone.now()
    Message.objects.create(
        message_id="1", source=System.objects.get(), timestamp=now, size=1, fingerprint=b"x", created_at=now
    )

    answer = admin("DELETE", "systems/erp/")
    assert (answer.status, answer.json["code"]) == (409, "in_use")
    assert "messages" in answer.json["detail"]
