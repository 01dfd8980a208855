"""Retirement: nothing new to or from a system, its keys stop, what waits is drained or cancelled, its name stays."""

import time

import pytest

from tests.acceptance.link import Link
from tests.acceptance.test_gates import batch, counts, drain_link
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.stack import Stack


def system(link: Link) -> dict[str, object]:
    return dict(link.stack.api("GET", f"systems/{link.target}/").json())


def settled(link: Link) -> None:
    """Return once nothing is left to do for the retired target."""
    link.stack.wait_for(lambda: system(link)["retirement"] == "", 40, "the retirement being complete")


def test_a_draining_system_gets_what_waited_and_nothing_new(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """What was accepted before is delivered, also what must be tried again; then it is done, and says so."""
    http_receiver.answer(503)
    link = Link(shared_stack, http_receiver.url, retry_schedule_s=[0.5])
    batch(link, 5)
    batch(link, 3, ordering_key="one")
    http_receiver.wait_for(3)
    shown = link.act(f"systems/{link.target}/retire/", {"drain": True})
    assert (shown["state"], shown["retirement"]) == ("retired", "draining")

    def refusal() -> str:
        return str(link.post().json().get("code"))

    shared_stack.wait_for(lambda: refusal() == "retired", 5, "new ones being refused")
    http_receiver.answer(200)
    drain_link(shared_stack, link)
    settled(link)

    assert {state for state, _ in counts(shared_stack, link)} == {"delivered"}
    assert counts(shared_stack, link)["delivered", "sent"] >= 8
    audited = shared_stack.api("GET", "audit/?object_type=system&page_size=50").json()["results"]
    actions = [row["action"] for row in audited if row["object_label"] == link.target]
    assert actions == ["retired", "retire", "create"]


def test_a_system_retired_at_once_has_its_waiting_deliveries_cancelled(
    shared_stack: Stack, http_receiver: HttpReceiver
) -> None:
    """Whatever it was they waited for, at doors that are gone, too; the books balance."""
    http_receiver.answer(503)
    link = Link(shared_stack, http_receiver.url, retry_schedule_s=[3600])
    other = {"system": link.target, "interface": "orders", "protocol": "http", "host": "127.0.0.1", "port": 9}
    door = shared_stack.api("POST", "endpoints/", json={**other, "path": "/"}).json()["id"]
    link.act(f"endpoints/{door}/pause/")
    batch(link, 40)
    batch(link, 4, ordering_key="one")
    batch(link, 6, target_system=f"{link.target}/orders")
    # No request takes the last door from what waits; a message on its way in meanwhile may still find it gone.
    theirs = "system_id = (SELECT id FROM endpoints_system WHERE slug = ?)"
    shared_stack.sql(f"DELETE FROM endpoints_endpoint WHERE interface = 'orders' AND {theirs}", link.target)
    shown = link.act(f"systems/{link.target}/retire/", {"drain": False})
    assert (shown["state"], shown["retirement"]) == ("retired", "cancelling")
    settled(link)

    assert counts(shared_stack, link) == {("cancelled", "retired"): 50}
    books = shared_stack.api("GET", f"ledger/?system={link.target}").json()
    assert books["balanced"], books
    again = shared_stack.api("GET", f"deliveries/?system={link.target}&page_size=1").json()["results"][0]["id"]
    refused = shared_stack.api("POST", f"deliveries/{again}/resend/")
    assert (refused.status_code, refused.json()["code"]) == (409, "retired")


def test_one_that_drains_in_vain_can_cancel_the_rest(shared_stack: Stack) -> None:
    link = Link(shared_stack, "http://127.0.0.1:9", retry_schedule_s=[3600])
    batch(link, 3)
    link.act(f"systems/{link.target}/retire/")
    link.act(f"systems/{link.target}/retire/", {"drain": False})
    settled(link)
    assert counts(shared_stack, link) == {("cancelled", "retired"): 3}
    for body in ({}, {"drain": False}):
        answer = shared_stack.api("POST", f"systems/{link.target}/retire/", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "retired")


def test_the_preview_names_dependents_keys_and_counts(shared_stack: Stack) -> None:
    """And changes nothing."""
    link = Link(shared_stack, "http://127.0.0.1:9", retry_schedule_s=[3600])
    changed = shared_stack.api("PATCH", f"systems/{link.source}/", json={"depends_on": [link.target]})
    assert changed.status_code == 200, changed.text
    shared_stack.key("operator", system=link.target)
    link.act(f"systems/{link.target}/pause/")
    batch(link, 7)
    found = link.act(f"systems/{link.target}/retire/", {"dry_run": True})

    assert (found["dependents"], found["waits"], found["sending"]) == ([link.source], 7, 0)
    assert (found["key_count"], len(found["keys"]), found["endpoints"], found["dead"]) == (1, 1, 1, 0)
    path, body = f"systems/{link.target}/retire/", {"dry_run": True}
    seen = shared_stack.api("POST", path, key=shared_stack.key("editor"), json=body).json()
    assert (seen["key_count"], seen["keys"]) == (1, [])  # names of keys are for those who manage them
    assert system(link)["state"] == "paused"
    printed = shared_stack.command("retire", link.target, "--cancel", "--dry-run")
    assert link.source in printed.stdout
    assert "7 to it" in printed.stdout


def test_the_keys_of_a_retired_system_stop_within_a_second(shared_stack: Stack) -> None:
    """Nobody speaks as it any more, nor gets a new key; other keys are as before."""
    link = Link(shared_stack, None)
    key = shared_stack.key("operator", system=link.target)
    assert shared_stack.api("GET", "systems/", key=key).status_code == 200
    started = time.monotonic()
    done = shared_stack.command("retire", link.target)
    assert done.returncode == 0, done.stderr
    retired = time.monotonic()

    def is_refused() -> bool:
        return shared_stack.api("GET", "systems/", key=key).status_code == 401

    shared_stack.wait_for(is_refused, 5, "the key being refused")
    assert time.monotonic() - retired <= 1.2, f"{time.monotonic() - started:.1f}"
    made = shared_stack.command("create_api_key", "late", "--role", "operator", "--system", link.target)
    assert made.returncode == 2
    assert "retired" in made.stderr
    sent = shared_stack.api("POST", "messages/", json={"source_system": link.target, "payload": 1})
    assert (sent.status_code, sent.json()["code"]) == (422, "retired")


def test_history_keeps_the_name_of_a_retired_system(shared_stack: Stack) -> None:
    """It cannot be renamed, given to another, or put to use again by an edit."""
    link = Link(shared_stack, None)
    link.act(f"systems/{link.target}/retire/")
    path = f"systems/{link.target}/"
    renamed = shared_stack.api("PATCH", path, json={"slug": f"{link.target}-old"})
    assert (renamed.status_code, renamed.json()["code"]) == (409, "retired")
    taken = shared_stack.api("POST", "systems/", json={"slug": link.target, "name": "Another"})
    assert (taken.status_code, taken.json()["code"]) == (409, "taken")
    edited = shared_stack.api("PATCH", path, json={"state": "active"})
    assert edited.status_code == 409
    assert "unretire" in edited.json()["detail"]
    assert shared_stack.api("PATCH", path, json={"description": "gone since May"}).status_code == 200
    assert shared_stack.api("POST", f"systems/{link.target}/maintenance/", json={}).status_code == 400


def test_an_edit_cannot_retire_a_system(shared_stack: Stack) -> None:
    link = Link(shared_stack, None)
    refused = shared_stack.api("PATCH", f"systems/{link.target}/", json={"state": "retired"})
    assert refused.status_code == 409
    assert "retire/" in refused.json()["detail"]


def test_a_retired_system_can_be_used_again(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """What was taken away stays away: only new messages go."""
    link = Link(shared_stack, http_receiver.url)
    assert shared_stack.api("POST", f"systems/{link.target}/unretire/").status_code == 409
    link.act(f"systems/{link.target}/pause/")
    batch(link, 2)
    link.act(f"systems/{link.target}/retire/", {"drain": False})
    settled(link)
    assert link.act(f"systems/{link.target}/unretire/")["state"] == "active"

    def is_taken() -> bool:
        return link.post().status_code == 202

    shared_stack.wait_for(is_taken, 5, "messages being taken again")
    drain_link(shared_stack, link)
    assert set(counts(shared_stack, link)) == {("cancelled", "retired"), ("delivered", "sent")}


def test_a_broadcast_that_meets_a_retired_system_is_skipped_on_the_record(
    shared_stack: Stack, http_receiver: HttpReceiver
) -> None:
    fields = {"accepts_broadcast": True, "accepts_from": ["*"]}
    link = Link(shared_stack, http_receiver.url, system_fields=fields)
    link.act(f"systems/{link.target}/retire/")
    shared_stack.wait_for(lambda: link.post().json().get("code") == "retired", 5, "the change being known")
    shared_stack.wait_for(lambda: not {state for state, _ in counts(shared_stack, link)} & {"pending", "sending"}, 20)
    http_receiver.clear()
    link.send(target_system="*")
    assert counts(shared_stack, link)["skipped", "retired"] == 1
    assert not http_receiver.received


def test_the_last_answers_of_a_retired_system_are_kept(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """A request that was accepted before is answered, though it may send nothing of its own any more."""
    http_receiver.answer(503)
    link = Link(shared_stack, http_receiver.url, retry_schedule_s=[1])
    asked = link.send(message_type="request", correlation_id=link.target)
    http_receiver.wait_for(1)
    link.act(f"systems/{link.target}/retire/")
    http_receiver.answer(Answer(200, b'{"price": 3}', {"Content-Type": "application/json"}))
    assert link.ended(asked)["state"] == "delivered"
    path = f"messages/?source_system={link.target}&message_type=response"
    answers = shared_stack.wait_for(lambda: shared_stack.api("GET", path).json()["results"], 10, "the answer")
    assert answers[0]["correlation_id"] == link.target


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_retiring_takes_an_editor(shared_stack: Stack, role: str) -> None:
    link = Link(shared_stack, None)
    for action in ("retire", "unretire"):
        path = f"systems/{link.target}/{action}/"
        assert shared_stack.api("POST", path, json={}, key=shared_stack.key(role)).status_code == 403
