"""Heartbeats: a message of that type, over any way in, says that its system is there."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.link import Link
from tests.stack import Stack


@pytest.fixture
def link(shared_stack: Stack) -> Link:
    return Link(shared_stack, None)


def system(link: Link) -> dict[str, Any]:
    return dict(link.stack.api("GET", f"systems/{link.source}/").json())


def seen(link: Link) -> str:
    return str(link.stack.wait_for(lambda: system(link)["last_seen_at"], 20, "the heartbeat being noted"))


def beat(link: Link, **fields: Any) -> Any:
    body = {"source_system": link.source, "message_type": "heartbeat", "payload": {}, **fields}
    return link.stack.api("POST", "messages/", json=body)


WAYS = {
    "one": lambda link: beat(link),
    "a batch": lambda link: link.stack.api(
        "POST", "messages/", json=[{"source_system": link.source, "message_type": "heartbeat", "payload": 1}]
    ),
    "a stream": lambda link: link.stack.api(
        "POST",
        "messages/",
        data=b'{"source_system": "%s", "message_type": "heartbeat", "payload": 1}\n' % link.source.encode(),
        headers={"Content-Type": "application/x-ndjson"},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_heartbeat_says_that_its_system_was_seen(link: Link, way: str) -> None:
    """Within seconds, to the second or so; nothing else of the system changes."""
    before, sent_at = system(link), datetime.now(UTC)
    answer = WAYS[way](link)
    at = datetime.fromisoformat(seen(link))

    assert answer.status_code == 202
    assert before["last_seen_at"] is None
    assert -5 < (at - sent_at).total_seconds() < 20
    assert system(link)["updated_at"] == before["updated_at"]


def test_other_messages_do_not(link: Link) -> None:
    beat(link, message_type="event")
    other = Link(link.stack, None)
    beat(other)
    seen(other)

    assert system(link)["last_seen_at"] is None


def test_a_heartbeat_for_nobody_is_kept_and_is_not_unrouted(link: Link) -> None:
    """It asked for no receiver: nobody has to look for a route that is missing."""
    message_id = beat(link).json()["message_id"]
    event_id = beat(link, message_type="event").json()["message_id"]
    kept, lost = (link.stack.api("GET", f"messages/{each}/").json() for each in (message_id, event_id))
    why = link.stack.api("GET", f"messages/{message_id}/why/").json()

    assert (kept["unrouted"], lost["unrouted"]) == (False, True)
    assert (why["state"], "a heartbeat" in why["text"]) == ("kept", True)
    assert link.stack.api("GET", f"ledger/?system={link.source}").json()["unrouted"] == 1


def test_systems_are_found_by_when_they_were_seen(link: Link) -> None:
    """Discovery: who was seen lately, and who was not for a while."""
    beat(link)
    at = datetime.fromisoformat(seen(link))

    def found(**query: str) -> bool:
        rows = link.stack.api("GET", "systems/", params={"q": link.source, **query}).json()["results"]
        return [row["slug"] for row in rows] == [link.source]

    earlier, later = (at - timedelta(minutes=1)).isoformat(), (at + timedelta(minutes=1)).isoformat()
    assert (found(seen_after=earlier), found(seen_after=later)) == (True, False)
    assert (found(seen_before=earlier), found(seen_before=later)) == (False, True)
    assert link.stack.api("GET", "systems/?seen_after=x").status_code == 400


def test_many_heartbeats_write_little(link: Link) -> None:
    """A system that beats a hundred times a second has its time written every few seconds."""
    batch = [{"source_system": link.source, "message_type": "heartbeat", "payload": n} for n in range(100)]
    link.stack.api("POST", "messages/", json=batch)
    first = seen(link)
    for _ in range(10):
        link.stack.api("POST", "messages/", json=batch)

    assert seen(link) == first
