"""One message, delivery or attempt: the fields, who sees the payload, and what was read is on the record."""

import base64
import subprocess
from typing import Any

import pytest

from endpoints.models import AuditEntry, Credential
from messaging.models import State
from tests.messaging.api_client import Api
from tests.messaging.factories import (
    make_attempt,
    make_delivery,
    make_endpoint,
    make_key,
    make_message,
    make_system,
    make_team,
)

DELIVERY_FIELDS = (
    "id message_id system interface endpoint state reason error_class ack_level attempts max_attempts due_at "
    "created_at finished_at ordering_key blocked_by halting"
)
ATTEMPT_FIELDS = "number endpoint started_at took_ms phases_ms outcome error_class status_code request response trigger"
ENVELOPE = (
    "message_id source_system target_system message_type event_type priority timestamp content_type headers "
    "correlation_id reply_to ordering_key recipient search_keys ttl deliver_at max_retries position created_at "
    "size unrouted deliveries"
)


def test_a_message_shows_its_envelope_and_deliveries(operator: Api) -> None:
    message = make_message(message_id="m-1", targets=["crm"], priority=2, search_keys={"order": "1"})
    delivery = make_delivery(message, "crm")
    status, body = operator.get("messages/m-1/")

    assert (status, body.keys() >= set(ENVELOPE.split())) == (200, True)
    assert (body["target_system"], body["priority"], body["event_type"]) == ("crm", "high", None)
    assert [row["id"] for row in body["deliveries"]] == [str(delivery.pk)]
    assert body["payload"] == {"n": 1}


@pytest.mark.parametrize("payload", [b'{"n": 1e2, "long": 0.10000000000000000001}', b"null", b'"text"', b"[1.0]"])
def test_a_json_payload_reads_back_byte_for_byte(operator: Api, payload: bytes) -> None:
    """No number is rewritten on its way through the API."""
    make_message(message_id="m-1", payload=payload)
    response = operator.client.get("/api/v1/messages/m-1/")

    assert b'"payload":' + payload in response.content
    assert response.json()["payload_base64"] is None


@pytest.mark.parametrize(
    ("payload", "content_type"),
    [
        (b"\x00\xff", "application/octet-stream"),
        (b"{broken", "application/json"),
        (b'"\\ud800"', "application/json"),
        (b"plain", "text/plain"),
        (b"", "application/json"),
    ],
)
def test_what_is_not_json_reads_as_base64(operator: Api, payload: bytes, content_type: str) -> None:
    """Also what only calls itself JSON: shown as it is, it would break the whole answer."""
    make_message(message_id="m-1", payload=payload, content_type=content_type)
    _, body = operator.get("messages/m-1/")

    assert base64.b64decode(body["payload_base64"]) == payload
    assert body["payload"] is None


def test_a_payload_removed_by_retention_says_so(operator: Api) -> None:
    make_message(message_id="m-1", payload=None)
    _, body = operator.get("messages/m-1/")

    assert (body["payload"], body["payload_base64"], body["payload_removed"]) == (None, None, True)


def test_reading_a_payload_is_audited_and_reading_metadata_is_not(operator: Api, viewer: Api) -> None:
    make_message(message_id="m-1")
    _, seen = viewer.get("messages/m-1/")
    operator.results("messages/")
    assert not AuditEntry.objects.exists()
    assert not seen.keys() & {"payload", "payload_base64", "payload_removed"}

    operator.get("messages/m-1/")
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.object_type, entry.object_label) == ("view_payload", "message", "m-1")


def test_lists_never_hold_payloads(admin: Api) -> None:
    make_delivery(make_message(payload=b'{"secret":"canary-7"}'))

    for path in ("messages/", "deliveries/"):
        assert "canary-7" not in str(admin.results(path))


def test_an_id_used_by_two_sources_is_ambiguous_until_one_is_named(operator: Api) -> None:
    make_message("erp", message_id="m-1")
    make_message("shop", message_id="m-1")
    status, body = operator.get("messages/m-1/")

    assert (status, body["code"]) == (409, "ambiguous")
    assert "erp, shop" in body["detail"]
    assert operator.get("messages/m-1/", source_system="erp")[1]["source_system"] == "erp"


@pytest.mark.parametrize(
    "path",
    [
        "messages/none/",
        "messages/%00/",
        "messages/%F0%9F%92%A9/",
        "deliveries/01890000-0000-7000-8000-000000000000/",
        "deliveries/1/",
        "deliveries/%00/",
        "attempts/x/",
        "attempts/01890000-0000-7000-8000-000000000000/curl/",
        "nothing/",
    ],
)
def test_what_is_not_there_is_404(admin: Api, path: str) -> None:
    assert admin.get(path)[0] == 404


def test_a_delivery_shows_its_attempts_oldest_first(operator: Api) -> None:
    delivery = make_delivery()
    for _ in range(3):
        make_attempt(delivery)
    status, body = operator.get(f"deliveries/{delivery.pk}/")

    assert status == 200
    assert body.keys() >= set(DELIVERY_FIELDS.split())
    assert [attempt["number"] for attempt in body["attempt_list"]] == [1, 2, 3]
    assert body["attempt_list"][0].keys() >= set(ATTEMPT_FIELDS.split())
    assert body["attempt_list"][0]["response"]["body"] == "ok"


def test_a_viewer_sees_attempts_without_what_was_said(viewer: Api) -> None:
    request = {"method": "POST", "url": "http://crm.test/", "headers": {}, "body": "canary-7"}
    attempt = make_attempt(request=request, response_body=b"canary-7")

    for path in (f"deliveries/{attempt.delivery_id}/", f"attempts/{attempt.pk}/"):
        status, body = viewer.get(path)
        assert status == 200
        assert "canary-7" not in str(body)
        assert "crm.test" in str(body)


def test_dead_letters_are_the_dead_deliveries(viewer: Api) -> None:
    dead, sent = make_delivery(state=State.DEAD), make_delivery()

    assert [row["id"] for row in viewer.results("dead-letters/")] == [str(dead.pk)]
    assert viewer.get(f"dead-letters/{dead.pk}/")[1]["reason"] == "exhausted"
    assert viewer.get(f"dead-letters/{sent.pk}/")[0] == 404


def test_teams_see_what_they_sent_or_received_and_nothing_else(db: None) -> None:
    """A delivery shows at both ends; for everyone else it does not exist."""
    north, south, west = (make_team(name) for name in ("north", "south", "west"))
    message = make_message(make_system("a", owner=north), message_id="m-1")
    delivery = make_delivery(message, make_system("b", owner=south))
    attempt = make_attempt(delivery)
    paths = (f"deliveries/{delivery.pk}/", f"attempts/{attempt.pk}/", "messages/m-1/")

    for team, expected in ((north, 200), (south, 200), (west, 404)):
        api = Api(make_key("operator", team=team))
        assert [api.get(path)[0] for path in paths] == [expected] * 3
        for path in ("messages/", "deliveries/", "attempts/"):
            assert len(api.results(path)) == (expected == 200)
    stranger = Api(make_key("operator", team=west))
    assert stranger.post(f"deliveries/{delivery.pk}/resend/")[0] == 404
    assert stranger.get(f"attempts/{attempt.pk}/curl/")[0] == 404


def test_a_receiver_sees_its_own_deliveries_of_a_message_only(db: None) -> None:
    south = make_team("south")
    message = make_message(make_system("a", owner=make_team("north")), message_id="m-1")
    own = make_delivery(message, make_system("b", owner=south))
    make_delivery(message, make_system("c", owner=make_team("west")))
    api = Api(make_key("viewer", team=south))

    assert [row["id"] for row in api.get("messages/m-1/")[1]["deliveries"]] == [str(own.pk)]


def test_resend_makes_an_ended_delivery_pending_and_no_other(operator: Api) -> None:
    dead, waiting = make_delivery(state=State.DEAD), make_delivery(state=State.PENDING)
    status, body = operator.post(f"deliveries/{dead.pk}/resend/")

    assert (status, body["state"], body["reason"]) == (202, "pending", "new")
    assert operator.post(f"deliveries/{waiting.pk}/resend/")[0] == 409


def test_cancel_ends_a_waiting_delivery_and_no_other(operator: Api) -> None:
    sent, waiting = make_delivery(), make_delivery(state=State.PENDING)
    status, body = operator.post(f"deliveries/{waiting.pk}/cancel/")

    assert (status, body["state"], body["reason"]) == (202, "cancelled", "operator")
    assert operator.post(f"deliveries/{sent.pk}/cancel/")[0] == 409


def test_a_viewer_reads_and_changes_nothing(viewer: Api) -> None:
    delivery = make_delivery(state=State.DEAD)
    attempt = make_attempt(delivery)

    for action in ("resend", "cancel"):
        assert viewer.post(f"deliveries/{delivery.pk}/{action}/")[0] == 403
    assert viewer.get(f"attempts/{attempt.pk}/curl/")[0] == 403
    assert viewer.post("messages/", {"source_system": "shop", "payload": 1})[0] == 403
    assert viewer.get("/api/config")[0] == 403


def test_without_a_key_everything_but_liveness_is_401(client: Any, db: None) -> None:
    for path in ("messages/", "deliveries/", "dead-letters/", "attempts/", "ledger/"):
        assert client.get(f"/api/v1/{path}").status_code == 401
    for path in ("/metrics", "/api/health", "/api/metrics", "/api/services", "/api/config"):
        assert client.get(path).status_code == 401
    for path in ("/healthz", "/readyz"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"plain",
        b'it\'s $HOME `id` $(id) "quoted" \\ !',
        b"@/etc/passwd",
        b"\x00\xffbinary",
        "ü\n".encode(),
        b"x" * 200_000,
    ],
    ids=["plain", "shell", "file", "binary", "unicode", "large"],
)
def test_the_curl_line_sends_the_very_bytes(operator: Api, body: bytes, tmp_path: Any) -> None:
    """The shell itself is asked what it would hand to curl."""
    attempt = make_attempt(make_delivery(make_message(payload=body)))
    status, line = operator.get(f"attempts/{attempt.pk}/curl/")
    assert status == 200

    script = tmp_path / "curl"
    script.write_text(
        '#!/bin/sh\nfor last; do :; done\ncase "$last" in @-) cat;; @*) cat "${last#@}";; *) printf %s "$last";; esac\n'
    )
    script.chmod(0o755)
    pasted = tmp_path / "pasted.sh"
    pasted.write_text(line)
    ran = subprocess.run(["bash", pasted], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=True)
    assert ran.stdout == body


def test_the_curl_line_leaves_secrets_to_the_shell_and_nothing_else(operator: Api) -> None:
    """A sender's `$HOME` in a header stays text; only the endpoint's own credential is a variable."""
    credential = Credential.objects.create(name="crm-token", kind="bearer", data=b"x", encryption_key_id="k")
    endpoint = make_endpoint(make_system("crm"), credential=credential)
    headers = {"Authorization": "Bearer $CRM_TOKEN", "X-Note": "it's $HOME", "X-Empty": "", "Content-Length": "7"}
    request = {"method": "PUT", "url": "http://crm.test/a?b=1&c=[2]", "headers": headers}
    attempt = make_attempt(endpoint=endpoint, request=request)
    _, line = operator.get(f"attempts/{attempt.pk}/curl/")

    assert line == (
        "curl --globoff -X PUT 'http://crm.test/a?b=1&c=[2]' -H 'Authorization: Bearer '\"$CRM_TOKEN\""
        " -H 'X-Empty;' -H 'X-Note: it'\"'\"'s $HOME' --data-binary '{\"n\":1}'"
    )
    assert AuditEntry.objects.get().action == "view_payload"


def test_an_attempt_that_sent_nothing_has_no_curl_line(operator: Api) -> None:
    lost = make_attempt(request={}, outcome="lost")
    gone = make_attempt(make_delivery(make_message(payload=None)))

    assert operator.get(f"attempts/{lost.pk}/curl/")[1]["code"] == "no_request"
    assert operator.get(f"attempts/{gone.pk}/curl/")[1]["code"] == "payload_removed"


def test_a_detail_takes_no_unknown_parameter(admin: Api) -> None:
    delivery = make_delivery()

    assert admin.get(f"deliveries/{delivery.pk}/", state="dead")[0] == 400
    assert admin.get("messages/x/", stat="dead")[0] == 400
    assert admin.get("/api/health", verbose="1")[0] == 400


@pytest.mark.parametrize("path", ["messages/", "deliveries/", "attempts/", "ledger/", "/api/health", "/metrics"])
@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_wrong_method_is_405(admin: Api, path: str, method: str) -> None:
    response = getattr(admin.client, method)(Api._at(path))

    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"
