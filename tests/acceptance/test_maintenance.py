"""Maintenance: windows that hold what comes, begin and end by themselves, and let go slowly."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from tests.acceptance.link import Link
from tests.acceptance.test_gates import Meter, batch, breaker, counts, drain_link, opened, several
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.stack import Stack

MakeStack = Callable[..., Stack]


def in_s(seconds: float) -> str:
    """Return the time so many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def windows(link: Link) -> str:
    return f"systems/{link.target}/maintenance/"


def plan(link: Link, until_s: float, from_s: float | None = None, **fields: object) -> dict[str, object]:
    """Have a window planned."""
    begins = {} if from_s is None else {"from": in_s(from_s)}
    answer = link.stack.api("POST", windows(link), json={"until": in_s(until_s), **begins, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_window_holds_and_lets_go_by_itself(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """Nothing is sent in it and nothing is spent; messages are taken; afterwards all goes, without anybody's doing."""
    link = Link(shared_stack, http_receiver.url)
    link.ended(link.send())
    http_receiver.clear()
    window = plan(link, 6, reason="new disks")
    held = [link.send() for _ in range(5)]
    for message_id in held:
        found = link.until(message_id, "pending", reason="maintenance")
        assert found["attempts"] == 0
    assert not http_receiver.received
    late = shared_stack.api("GET", "/api/metrics").json().get("controlplane_oldest_due_seconds", [])
    assert link.target not in {sample["system"] for sample in late}
    drain_link(shared_stack, link)

    assert counts(shared_stack, link) == {("delivered", "sent"): 6}
    first = min(request.at for request in http_receiver.received)
    assert -0.01 <= first - at(str(window["until"])) <= 1.5, "by the database's time, within a second or so"
    shown = shared_stack.api("GET", f"{windows(link)}{window['id']}/").json()
    assert (shown["state"], shown["reason"]) == ("over", "new disks")


def test_nothing_slips_out_when_a_window_begins_under_load(make_stack: MakeStack, http_receiver: HttpReceiver) -> None:
    """Two processes in full swing stop at its very second, though much is claimed already."""
    stack = several(make_stack, 2)
    http_receiver.answer(Answer(200, delay_s=0.02))
    link = Link(stack, http_receiver.url, max_in_flight=4)
    batch(link, 750)
    batch(link, 750)
    window = plan(link, 8, from_s=4)
    late = link.send()
    link.until(late, "pending", reason="maintenance", timeout=20)
    drain_link(stack, link, 60)
    begins, ends = at(str(window["from"])), at(str(window["until"]))
    times = [request.at for request in http_receiver.received]

    assert any(moment < begins for moment in times)
    slipped = [round(moment - begins, 3) for moment in times if begins + 0.05 < moment < ends]
    assert not slipped, slipped
    assert (len(times), counts(stack, link)) == (1501, {("delivered", "sent"): 1501})


def test_what_waits_for_a_rate_when_a_window_begins_waits_on(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """The place it got in the rate is in the window: it is given back, unspent."""
    link = Link(shared_stack, http_receiver.url, max_in_flight=64, rate_per_s=20)
    batch(link, 120)
    window = plan(link, 7, from_s=3)
    link.until(link.send(), "pending", reason="maintenance", timeout=20)
    drain_link(shared_stack, link, 60)
    begins, ends = at(str(window["from"])), at(str(window["until"]))
    times = [request.at for request in http_receiver.received]
    slipped = [round(moment - begins, 3) for moment in times if begins + 0.05 < moment < ends]

    assert any(moment < begins for moment in times)
    assert not slipped, slipped
    assert (len(times), counts(shared_stack, link)) == (121, {("delivered", "sent"): 121})


def test_overlapping_windows_count_as_one_and_afterwards_it_begins_slowly(
    shared_stack: Stack, http_receiver: HttpReceiver
) -> None:
    """Held until the last of them ends; then one in flight, two, four; a retry need not wait out its delay."""
    http_receiver.answer(503)
    link = Link(shared_stack, http_receiver.url, max_in_flight=16, retry_schedule_s=[3600])
    retried = link.send()
    link.until(retried, "pending", reason="retrying")
    plan(link, 3)
    second = plan(link, 6, from_s=1)
    batch(link, 250)
    link.until(retried, "pending", reason="maintenance")
    http_receiver.clear()
    Meter(http_receiver, 0.05)
    drain_link(shared_stack, link)
    times = sorted(request.at for request in http_receiver.received)
    per_second = [sum(1 for moment in times if second <= moment - times[0] < second + 1) for second in range(4)]

    assert times[0] >= at(str(second["until"])) - 0.01
    assert counts(shared_stack, link) == {("delivered", "sent"): 251}
    for number, count in enumerate(per_second[:3]):
        assert count <= 20 * 2 ** (number + 1) + 5, per_second


def test_what_is_paused_and_maintained_waits_for_the_end_of_both(
    shared_stack: Stack, http_receiver: HttpReceiver
) -> None:
    """A person's pause is said first; resumed, the window still holds; ended early, it goes."""
    link = Link(shared_stack, http_receiver.url)
    window = plan(link, 600)
    link.act(f"systems/{link.target}/pause/")
    held = link.send()
    link.until(held, "pending", reason="paused")
    link.act(f"systems/{link.target}/resume/")
    link.until(held, "pending", reason="maintenance")
    assert not http_receiver.received
    link.act(f"systems/{link.target}/pause/")
    link.until(held, "pending", reason="paused")
    assert link.act(f"{windows(link)}end/") == {"ended": 1}
    link.until(link.send(), "pending", reason="paused")
    assert not http_receiver.received
    link.act(f"systems/{link.target}/resume/")
    drain_link(shared_stack, link)

    assert shared_stack.api("GET", f"{windows(link)}{window['id']}/").json()["state"] == "over"
    assert shared_stack.api("POST", f"{windows(link)}end/").json() == {"ended": 0}


def test_the_head_of_an_order_that_is_let_go_in_a_window_is_held(
    shared_stack: Stack, http_receiver: HttpReceiver
) -> None:
    """Cancelled heads let the next of their key go, to wait for the end of the window."""
    link = Link(shared_stack, http_receiver.url)
    plan(link, 600)
    first, second = link.send(ordering_key="a"), link.send(ordering_key="a")
    link.until(first, "pending", reason="maintenance")
    link.until(second, "pending", reason="blocked")
    shared_stack.api("POST", f"deliveries/{link.delivery(first)['id']}/cancel/")
    link.until(second, "pending", reason="maintenance")
    assert not http_receiver.received
    link.act(f"{windows(link)}end/")
    assert link.ended(second)["state"] == "delivered"


def test_an_open_breaker_tries_nobody_in_a_window(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    """Not even its one try at a time; when the window ends it goes on."""
    http_receiver.answer(500)
    link = Link(shared_stack, http_receiver.url, retry_schedule_s=[3600])
    batch(link, 12)
    opened(link)
    plan(link, 600)
    shared_stack.wait_for(
        lambda: ("pending", "maintenance") in counts(shared_stack, link), 20, "maintenance being said"
    )
    http_receiver.clear()
    http_receiver.answer(200)
    link.until(link.send(), "pending", reason="maintenance")
    assert not http_receiver.received
    link.act(f"{windows(link)}end/")
    drain_link(shared_stack, link, 60)
    assert breaker(link)["state"] == "closed"


def test_a_preview_says_what_waits_and_what_would_expire(shared_stack: Stack, http_receiver: HttpReceiver) -> None:
    link = Link(shared_stack, http_receiver.url)
    link.act(f"systems/{link.target}/pause/")
    batch(link, 3)
    batch(link, 2, ttl=1800)
    batch(link, 4, ttl=7200)
    asked = {"until": in_s(3600), "dry_run": True}
    shown = shared_stack.api("POST", windows(link), json=asked)

    assert shown.status_code == 200
    found = shown.json()
    assert (found["waits"], found["would_expire"], found["sending"], found["overlaps"]) == (9, 2, 0, 0)
    assert shared_stack.api("GET", windows(link)).json()["results"] == []
    link.act(f"systems/{link.target}/resume/")


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"until": -5}, "until"),
        ({"until": 60, "from": 120}, "until"),
        ({"until": 7200, "from": -3600}, "from"),
        ({"until": 86400 * 400}, "until"),
        ({"until": 60, "reason": "x" * 501}, "reason"),
        ({"until": 60, "why": "typo"}, "why"),
        ({}, "until"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_makes_no_window_is_refused(
    shared_stack: Stack, fields: dict[str, object], at_fault: str, dry_run: bool
) -> None:
    """Times are given in seconds from now, since these tests wait for others."""
    link = Link(shared_stack, None)
    asked = {name: in_s(value) if isinstance(value, int) else value for name, value in fields.items()}
    answer = shared_stack.api("POST", windows(link), json={**asked, "dry_run": dry_run})
    assert answer.status_code == 400, answer.text
    assert [entry["field"] for entry in answer.json()["errors"]] == [at_fault]


def test_a_window_is_changed_and_ended_on_the_record(shared_stack: Stack) -> None:
    """One ahead can be moved or deleted; one that runs keeps its start; one that is over stays as it is."""
    link = Link(shared_stack, None)
    ahead, running = plan(link, 7200, from_s=3600), plan(link, 3600)
    path = f"{windows(link)}{ahead['id']}/"
    moved = shared_stack.api("PATCH", path, json={"from": in_s(5400), "reason": "later"})
    assert (moved.status_code, moved.json()["reason"], moved.json()["state"]) == (200, "later", "upcoming")
    assert shared_stack.api("DELETE", path).status_code == 204
    assert shared_stack.api("GET", path).status_code == 404

    path = f"{windows(link)}{running['id']}/"
    assert shared_stack.api("PATCH", path, json={"from": in_s(60)}).status_code == 409
    assert shared_stack.api("PATCH", path, json={"until": in_s(-60)}).status_code == 400
    longer = shared_stack.api("PATCH", path, json={"until": in_s(5400)})
    assert longer.status_code == 200, longer.text
    shared_stack.wait_for(lambda: shared_stack.api("DELETE", path).status_code in (200, 409), 5)
    shared_stack.wait_for(lambda: shared_stack.api("GET", path).json()["state"] == "over", 5, "its end")
    assert shared_stack.api("DELETE", path).status_code == 409
    assert shared_stack.api("PATCH", path, json={"until": in_s(60)}).status_code == 409
    audited = shared_stack.api("GET", "audit/?object_type=maintenance&page_size=20").json()["results"]
    actions = [row["action"] for row in audited if link.target in row["object_label"]]
    assert actions == ["end", "update", "delete", "update", "create", "create"]


def test_windows_take_an_operator_of_the_team(shared_stack: Stack) -> None:
    link = Link(shared_stack, None)
    body = {"until": in_s(60)}
    viewer = shared_stack.key("viewer")
    assert shared_stack.api("POST", windows(link), json=body, key=viewer).status_code == 403
    assert shared_stack.api("GET", windows(link), key=viewer).status_code == 200
    assert shared_stack.api("POST", windows(link), json=body, key=shared_stack.key("operator")).status_code == 201
    assert shared_stack.api("GET", "systems/nobody-here/maintenance/").status_code == 404
    assert shared_stack.api("GET", f"{windows(link)}?colour=red").status_code == 400


def test_the_command_plans_previews_and_ends(shared_stack: Stack) -> None:
    link = Link(shared_stack, None)
    tried = shared_stack.command("maintenance", link.target, "--until", "1h", "--dry-run")
    assert tried.returncode == 0, tried.stderr
    assert "0 deliveries wait" in tried.stdout
    planned = shared_stack.command("maintenance", link.target, "--until", "1h", "--reason", "disks", "--json")
    assert planned.returncode == 0, planned.stderr
    assert orjson.loads(planned.stdout)["reason"] == "disks"
    listed = shared_stack.command("maintenance", link.target)
    assert "disks" in listed.stdout
    assert "running" in listed.stdout
    ended = shared_stack.command("maintenance", link.target, "--end")
    assert ended.returncode == 0, ended.stderr
    assert shared_stack.api("GET", f"{windows(link)}?ahead=true").json()["results"] == []
    assert shared_stack.command("maintenance", link.target, "--from", "1h").returncode == 2
    shared_stack.command("maintenance", link.target, "--from", "1h", "--until", "2h")
    assert "--end --planned takes it back" in shared_stack.command("maintenance", link.target, "--end").stdout
    assert "will not be" in shared_stack.command("maintenance", link.target, "--end", "--planned").stdout
    assert shared_stack.api("GET", f"{windows(link)}?ahead=true").json()["results"] == []
    assert shared_stack.command("maintenance", "nobody-here").returncode == 2
