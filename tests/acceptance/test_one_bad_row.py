"""One endpoint that is wrong in a way nobody thought of harms only itself."""

from uuid import uuid4

from tests.acceptance.link import Link
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.stack import Stack


def test_a_signing_secret_that_is_no_base64_holds_up_only_its_own_endpoint(
    shared_stack: Stack, http_receiver: HttpReceiver
) -> None:
    """The engine goes on; what was to be signed says what is wrong with the credential."""
    name = f"signing-{uuid4().hex[:8]}"
    body = {"name": name, "kind": "hmac", "data": {"secret": "whsec_schlüssel"}}
    assert shared_stack.api("POST", "credentials/", json=body).status_code == 201
    broken = Link(shared_stack, http_receiver.url, config={"signing_credential": name}, max_attempts=1)
    healthy = Link(shared_stack, http_receiver.url)

    lost = broken.ended(broken.send())

    assert (lost["state"], lost["error_class"]) == ("dead", "auth")
    assert healthy.ended(healthy.send())["state"] == "delivered"
    assert shared_stack.processes["deliver"].poll() is None


def test_an_answer_that_is_no_text_is_judged_by_the_rules(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """A header of raw bytes meets a regular expression: the attempt is judged, not taken for a lost worker."""
    http_receiver.answer(Answer(200, b"ok", {"X-Odd": "\xe9rror"}))
    rule = {"when": {"headers.x-odd": {"search": "rror"}}, "is": "dead"}
    link = Link(shared_stack, http_receiver.url, outcomes=[rule])

    found = link.ended(link.send())

    assert (found["state"], found["reason"], found["attempts"]) == ("dead", "refused", 1)
    assert len(http_receiver.received) == 1


def test_a_request_with_nul_in_it_is_kept_as_far_as_it_can_be(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """A body made by a template of a payload that holds NUL, which no column of JSON takes."""
    config = {"body": "template", "template": "${{ message.payload }}"}
    link = Link(shared_stack, http_receiver.url, config=config)

    found = link.ended(link.send(payload=None, payload_base64="YQBi", content_type="text/plain"))

    assert found["state"] == "delivered"
    (attempt,) = shared_stack.api("GET", f"deliveries/{found['id']}/").json()["attempt_list"]
    assert (attempt["error"], http_receiver.received[0].body) == (None, b"a\0b")
    assert attempt["request"]["body"] == "a\ufffdb"
