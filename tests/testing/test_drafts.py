"""First suites: each parses, runs as it stands, asserts what is true once all is well, and holds no secret."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.utils import timezone

from endpoints import services
from endpoints.access.principal import COMMAND
from endpoints.models import Endpoint, Inbox
from testing.document.reader import read_suite
from testing.drafting.writing import write
from tests.endpoints.conftest import Caller
from tests.servers.fixtures import http_receiver
from tests.servers.http import Answer, HttpReceiver
from tests.servers.ports import free_port
from tests.stack import Stack
from tests.testing.conftest import Outcome, answer, register
from tests.testing.test_suites_api import ended, started

__all__ = ["http_receiver"]

Run = Callable[..., Outcome]
SECRETS = (
    "s3cret-token-of-orders",
    "hunter2-hunter2",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
    "Basic dXNlcjpwYXNz",
)
PETS: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pets"},
    "paths": {
        "/pets": {
            "get": {
                "operationId": "listPets",
                "parameters": [{"name": "limit", "in": "query", "required": True, "schema": {"default": 5}}],
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pets"}}}}
                },
            },
            "post": {"responses": {"201": {}}},
        },
        "/pets/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {"responses": {"200": {}}},
        },
    },
    "components": {
        "schemas": {
            "Pets": {"type": "array", "items": {"$ref": "#/components/schemas/Pet"}},
            "Pet": {
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"type": "integer"},
                    "kind": {"enum": ["${{ secret.a.b }}", 1, "password"]},
                    "mother": {"$ref": "#/components/schemas/Pet"},
                },
            },
        }
    },
}
NASTY = [
    *(
        "1e3",
        "0o17",
        "0x1F",
        "yes",
        "No",
        "null",
        "~",
        "",
        " ",
        "- a",
        "a: b",
        "a #b",
        "#x",
        "1:20",
        "2026-01-02",
        "!t",
    ),
    *("&a", "*a", "%d", "@x", "`x`", "---", "...", "{a}", "[a]", "'", '"', "a\\b", "two\nlines", "three\nof\nthem\n"),
    *(
        "\n\n",
        " lead\n x\n",
        "trail  \n\n\n",
        "tab\there",
        "é ünï",
        "\U0001f600",
        "\u2028",
        "\x85",
        "\ufeff",
        "a" * 500,
    ),
    *("x: |", "key: - v", "? q", "0", "-1.5", ".5", "+1", "1_000", "true", "TRUE ", "line\r\nend\r\n"),
    *([1, 0.1, 1e300, -(2**63), None, True, [], {}, [[], {}]]),
]


def command(*args: str) -> str:
    """Return what `draft_suite` prints."""
    from io import StringIO

    out = StringIO()
    call_command("draft_suite", *args, stdout=out)
    return out.getvalue()


def refused(*args: str) -> str:
    with pytest.raises(CommandError) as told:
        command(*args)
    assert told.value.returncode == 2
    return str(told.value)


def test_what_is_written_reads_back_as_it_was() -> None:
    """YAML leaves nothing bare that the core schema reads as something else; comments end with their line."""
    payload = {**{f"k{index}": value for index, value in enumerate(NASTY)}, **{str(key): 1 for key in NASTY if key}}
    steps = [{"message": {"from": "a", "payload": payload}, "assert": [{"status": {"eq": "delivered"}}]}]
    document = {"suite": "nasty", "systems": {"a": "a"}, "cases": [{"case": "one", "steps": steps}]}
    text = write(document, ["said\nsuite: other", "a ${{ secret.a.b }}"])

    assert read_suite(text).slug == "nasty"
    assert read_suite(text).cases[0].steps[0].params["payload"] == payload
    assert "${{" not in text


def test_a_curl_line_becomes_a_request_without_its_secrets(run: Run, orders: HttpReceiver) -> None:
    """It goes over the endpoint that has the address, with the endpoint's credential."""
    line = (
        f"curl -sSX PUT '{orders.url}/v1/orders?page=2&api_key=hunter2-hunter2' -u me:hunter2-hunter2 \\\n"
        f" -H 'Authorization: Basic dXNlcjpwYXNz' -H 'X-Trace: 7' -H 'Content-Type: application/json' "
        f"""--data-raw '{{"n": 1, "password": "hunter2-hunter2", "note": "${{{{ secret.orders-token.token }}}}"}}'"""
    )
    text = command("--curl", line)
    done = run(text)

    assert (done.code, done.verdicts) == (0, {"answers": "passed"}), done.out
    (request,) = orders.received
    assert (request.method, request.path) == ("PUT", "/v1/orders?page=2")
    assert request.headers["authorization"] == "Bearer s3cret-token-of-orders"
    assert request.headers["x-trace"] == "7"
    sent = json.loads(request.body)
    assert (sent["n"], sent["password"]) == (1, "left-out")
    assert sent["note"] == "$ {{ secret.orders-token.token }}"
    assert not [secret for secret in SECRETS if secret in text]
    orders.answer(503)
    assert run(text).verdict == "failed"


def test_of_several_systems_at_one_address_the_path_says_which(admin: Caller) -> None:
    """The one whose endpoint's path is the longest beginning of what is asked for; where none is, nobody guesses."""
    for slug, path in {"billing": "billing/main", "crm": "crm/main", "crm-eu": "crm/main/eu"}.items():
        register(admin, slug, f"http://127.0.0.1:8101/{path}")

    def drafted(path: str) -> str:
        return command("--curl", f"curl 'http://127.0.0.1:8101{path}'")

    for path, slug in {"/crm/main": "crm", "/crm/main/eu/1?a=b": "crm-eu", "/billing/main/1": "billing"}.items():
        assert f"api: {slug}\n" in drafted(path)
    assert "billing, crm, crm-eu have endpoints at that address; name one" in refused(
        "--curl", "curl http://127.0.0.1:8101/crm/mainly"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("wget http://a", "must begin with curl"),
        ("curl 'http://a", "cannot be read"),
        ("curl -s", "names no address"),
        ("curl http://a http://b", "two addresses"),
        ("curl -F a=b http://a", "unknown option '-F'"),
        ("curl --dta x http://a", "did you mean '--data'"),
        ("curl -d @secret.txt http://a", "reads the file"),
        ("curl ftp://a/x", "http or https"),
        ("curl http://nowhere.example.org/x", "no system has an endpoint at http://nowhere.example.org:80"),
        ("curl -d", "ends after -d"),
    ],
)
def test_a_curl_line_that_cannot_be_made_a_suite_is_refused_with_its_reason(
    transactional_db: None, line: str, said: str
) -> None:
    assert said in refused("--curl", line)


def test_an_openapi_document_becomes_a_case_for_each_reading_operation(
    run: Run, orders: HttpReceiver, tmp_path: Path
) -> None:
    """Fetched or read; what writes, or needs what nobody knows, is named as left out."""
    document = json.dumps(PETS | {"servers": [{"url": f"{orders.url}/v2/"}]})
    file = tmp_path / "pets.json"
    file.write_text(document)
    text = command("--openapi", str(file))
    orders.answer(answer(body=[{"id": 1, "mother": {"id": 2}}]))
    done = run(text)

    assert (done.code, done.verdicts) == (0, {"listpets": "passed"}), done.out
    assert orders.received[-1].path == "/v2/pets?limit=5"
    assert "Left out: POST /pets (it writes)." in text
    assert "Left out: GET /pets/{id} (no example of id)." in text
    orders.answer(answer(body=[{"id": "1"}]))
    assert "not of type" in run(text).cases["listpets"]["reason"]
    orders.answer(Answer(200, document.encode()))
    assert command("--openapi", f"{orders.url}/openapi.json") == text
    orders.answer(404)
    assert "could not be fetched: 404" in refused("--openapi", f"{orders.url}/openapi.json")
    file.write_text("a: [")
    assert "is not YAML" in refused("--openapi", str(file))


def test_a_system_becomes_a_look_at_each_of_its_doors(run: Run, orders: HttpReceiver, admin: Caller) -> None:
    """Whatever it says of a GET, short of a fault of its own, says that it is there."""
    text = command("orders", "--save")
    orders.answer(405)
    assert run(text).verdicts == {"answers": "passed"}
    orders.answer(502)
    assert run(text).verdicts == {"answers": "failed"}
    assert admin("GET", "suites/orders-reachable/").json["text"] == text
    assert command("orders").splitlines()[1] == "suite: orders-reachable-2"
    tcp = {"system": "line", "protocol": "tcp", "host": "127.0.0.1", "port": urlsplit(orders.url).port}
    assert admin("POST", "systems/", {"slug": "line", "name": "Line"}).status == 201
    endpoint = admin("POST", "endpoints/", {**tcp, "config": {"framing": "line"}}).json
    line = command("line")
    assert run(line).verdicts == {"answers": "passed"}
    assert admin("PATCH", f"endpoints/{endpoint['id']}/", {"port": free_port()}).status == 200
    assert "no answer: connect" in run(line).cases["answers"]["reason"]
    assert admin("POST", "systems/", {"slug": "mute", "name": "Mute"}).status == 201
    assert "make one from a message" in refused("mute")
    assert "no system 'nobody'" in refused("nobody")
    assert "name a system" in refused()


def test_systems_that_nobody_can_call_become_a_look_at_what_can_be_seen(run: Run, admin: Caller) -> None:
    """A receiver that fetches has asked of late; a datagram is not refused, or answered; a client acknowledges."""
    for slug, endpoint in {
        "inbox": {"protocol": "pull"},
        "lamp": {"protocol": "udp", "host": "127.0.0.1", "port": free_port()},
        "echo": {"protocol": "udp", "host": "127.0.0.1", "port": 9, "config": {"reply": "message", "probe": "hi"}},
        "app": {"protocol": "gateway"},
    }.items():
        assert admin("POST", "systems/", {"slug": slug, "name": slug}).status == 201
        made = admin("POST", "endpoints/", {"system": slug, **endpoint})
        assert made.status == 201, made.body

    fetches = command("inbox")
    assert "nobody has ever asked" in run(fetches).cases["answers"]["reason"]
    Inbox.objects.create(endpoint_id=Endpoint.objects.get(system__slug="inbox").pk, asked_at=timezone.now())
    assert run(fetches).verdicts == {"answers": "passed"}

    lamp = command("lamp")
    assert "shows only that its host does not refuse it" in lamp
    assert "no answer: connect" in run(lamp).cases["not-refused"]["reason"]
    assert "case: answers" in command("echo")

    sent = read_suite(command("app")).cases[0].steps[0]
    assert (sent.kind, sent.params["to"], sent.params["event_type"]) == ("message", ["system"], "controlplane.check")


def caller(role: str, team: str) -> Caller:
    """Return a key of a role in a team, which is made if it is not there."""
    group, _ = Group.objects.get_or_create(name=team)
    return Caller(services.create_api_key(f"{role}-{team}", role, by=COMMAND, team=group)[1])


def test_drafts_over_rest_are_for_operators_and_within_teams(admin: Caller) -> None:
    """What another team owns is not there, whatever names it: a slug or an address."""
    blue, red = caller("operator", "Blue"), caller("operator", "Red")
    register(admin, "reds", "http://127.0.0.1:9", owner="Red")
    assert red("POST", "suites/draft/", {"system": "reds"}).json["suite"] == "reds-reachable"
    assert blue("POST", "suites/draft/", {"system": "reds"}).status == 404
    assert caller("viewer", "Red")("POST", "suites/draft/", {"system": "reds"}).status == 403
    line = "curl http://127.0.0.1:9/x"
    assert blue("POST", "suites/draft/", {"curl": line}).json["code"] == "unknown_address"
    for wrong in ({}, {"curl": line, "message": "1"}, {"curl": line, "x": 1}, {"delivery": "1"}):
        assert admin("POST", "suites/draft/", wrong).status == 400, wrong
    assert admin("POST", "suites/draft/", {"message": "none"}).status == 404


def test_a_dead_letter_becomes_a_suite_that_fails_until_the_like_arrives(
    stack: Stack, http_receiver: HttpReceiver
) -> None:
    """Its outcome is said with what the receiver answered; mended, the same suite passes. No secret is copied."""
    stack.start("worker")
    stack.register("shop")
    made = {"name": "crm-token", "kind": "bearer", "data": {"token": SECRETS[0]}}
    assert stack.api("POST", "credentials/", json=made).status_code == 201
    stack.register("crm", http_receiver.url, credential="crm-token")
    http_receiver.answer(Answer(422, b'{"error": "no such customer"}', {"Content-Type": "application/json"}))
    sent = {
        "source_system": "shop",
        "target_system": "crm",
        "event_type": "order.paid",
        "ordering_key": "o-1",
        "headers": {"authorization": SECRETS[3], "x-kind": "b2b", "x-note": SECRETS[2]},
        "payload": {"order": 4711, "password": SECRETS[1], "note": SECRETS[0], "read": "${{ secret.crm-token.token }}"},
    }
    message_id = stack.api("POST", "messages/", json=sent).json()["message_id"]
    dead = stack.wait_for(
        lambda: stack.api("GET", f"deliveries/?message_id={message_id}&state=dead").json()["results"], 30, "its death"
    )[0]
    made_of = stack.api("POST", "suites/draft/", json={"delivery": dead["id"]}).json()
    text = made_of["text"]
    assert not [secret for secret in SECRETS if secret in text], text
    assert stack.command("draft_suite", "--message", dead["id"]).stdout == text
    assert "At crm it is dead: client_error" in text
    assert "ordering_key" not in text

    assert stack.api("POST", "suites/", json={"text": text}).status_code == 201
    failed = ended(stack, started(stack, made_of["suite"]))
    assert (failed["verdict"], failed["cases"][0]["verdict"]) == ("failed", "failed"), failed
    assert "status: expected 'delivered', got 'dead'" in failed["cases"][0]["reason"]
    report = stack.api("GET", f"runs/{failed['id']}/report.json").json()
    checks = report["cases"][0]["steps"][0]["attempts"][0]["checks"]
    assert [check["actual"] for check in checks if not check["ok"]] == ["dead", 422]
    http_receiver.answer(200)
    assert ended(stack, started(stack, made_of["suite"]))["verdict"] == "passed"
    got = json.loads(http_receiver.received[-1].body)
    assert got == {"order": 4711, "password": "left-out", "note": "left-out", "read": "$ {{ secret.crm-token.token }}"}

    like = stack.api("POST", "suites/draft/", json={"message": message_id}).json()["text"]
    assert "it is dead" in like
    views = stack.api("GET", "audit/?action=view_payload").json()["results"]
    assert len(views) >= 3
