"""Why, over real interfaces: each reason is brought about, and said right, wherever it is asked for."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from tests.acceptance.link import Link
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.stack import Stack

NEVER_S = 3600
MakeStack = Callable[..., Stack]
Made = tuple[Link, str]  # and the message's id


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def retrying(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(Answer(503), Answer(500), Answer(500, b"deadlock\n detected"))
    link = Link(stack, receiver.url, retry_schedule_s=[0.05, 0.05, NEVER_S])
    message_id = link.send()
    link.stack.wait_for(lambda: link.delivery(message_id)["attempts"] == 3, 20, "three tries")
    return link, message_id


def paused(stack: Stack, receiver: HttpReceiver) -> Made:
    link = Link(stack, receiver.url)
    link.act(f"systems/{link.target}/pause/", {"reason": "month end", "until": soon(NEVER_S)})
    message_id = link.send()
    link.until(message_id, "pending", reason="paused")
    return link, message_id


def paused_interface(stack: Stack, receiver: HttpReceiver) -> Made:
    link = Link(stack, receiver.url, interface="orders")
    link.target += "/orders"
    link.act(f"endpoints/{link.endpoint}/pause/", {"reason": "new firewall"})
    message_id = link.send()
    link.until(message_id, "pending", reason="paused")
    return link, message_id


def breaker(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(Answer(500, b"out of disk"))
    link = Link(stack, receiver.url, retry_schedule_s=[NEVER_S])
    body = [link.message(payload={"n": number}) for number in range(15)]
    rows = link.stack.api("POST", "messages/", json=body).json()["results"]
    for row in rows:  # those that were tried before it opened are marked in a moment of their own
        link.until(row["message_id"], "pending", reason="breaker")
    return link, rows[-1]["message_id"]


def throttled(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(Answer(429, b"too fast", {"Retry-After": "655"}))
    link = Link(stack, receiver.url)
    message_id = link.send()
    link.until(message_id, "pending", reason="throttled")
    return link, message_id


def rate_limited(stack: Stack, receiver: HttpReceiver) -> Made:
    link = Link(stack, receiver.url, rate_per_s=0.1)
    body = [link.message(payload={"n": number}) for number in range(20)]
    rows = link.stack.api("POST", "messages/", json=body).json()["results"]
    link.until(rows[-1]["message_id"], "pending", reason="rate_limited")
    return link, rows[-1]["message_id"]


def line(link: Link, count: int) -> list[str]:
    body = [link.message(ordering_key="k 7", payload={"n": number}) for number in range(count)]
    return [row["message_id"] for row in link.stack.api("POST", "messages/", json=body).json()["results"]]


def blocked(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(500)
    link = Link(stack, receiver.url, retry_schedule_s=[NEVER_S])
    first, *_, last = line(link, 4)
    link.until(first, "pending", reason="retrying")
    return link, last


def halted(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(404)
    link = Link(stack, receiver.url, ordering_policy="halt")
    first, second = line(link, 2)
    link.until(first, "dead")
    return link, second


def halting(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(404)
    link = Link(stack, receiver.url, ordering_policy="halt")
    first, _ = line(link, 2)
    link.until(first, "dead")
    return link, first


def scheduled(stack: Stack, receiver: HttpReceiver) -> Made:
    link = Link(stack, receiver.url)
    return link, link.send(deliver_at=soon(NEVER_S))


def new(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(Answer(200, delay_s=30))
    link = Link(stack, receiver.url, max_in_flight=1, timeout_s=40)
    first, second, _ = (link.send() for _ in range(3))
    link.until(first, "sending")
    return link, second


def sending(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(Answer(200, delay_s=30))
    link = Link(stack, receiver.url, timeout_s=40)
    message_id = link.send()
    link.until(message_id, "sending")
    return link, message_id


def refused(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(Answer(422, b"no such customer"))
    link = Link(stack, receiver.url)
    message_id = link.send()
    link.until(message_id, "dead")
    return link, message_id


def exhausted(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(Answer(500, b"boom"))
    link = Link(stack, receiver.url, max_attempts=2, retry_schedule_s=[0.05])
    message_id = link.send()
    link.until(message_id, "dead")
    return link, message_id


def untransformable(stack: Stack, receiver: HttpReceiver) -> Made:
    link = Link(stack, receiver.url, config={"body": "form"})
    message_id = link.send(payload=[1])
    link.until(message_id, "dead")
    return link, message_id


def disabled(stack: Stack, receiver: HttpReceiver) -> Made:
    link = Link(stack, receiver.url)
    link.act(f"endpoints/{link.endpoint}/disable/")
    skips = lambda: link.delivery(link.send())["state"] == "skipped"  # noqa: E731
    link.stack.wait_for(skips, 10, "intake knowing")
    message_id = link.send()
    return link, message_id


def delivered(stack: Stack, receiver: HttpReceiver) -> Made:
    link = Link(stack, receiver.url)
    message_id = link.send()
    link.until(message_id, "delivered")
    return link, message_id


def expired(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(500)
    link = Link(stack, receiver.url, retry_schedule_s=[NEVER_S])
    message_id = link.send(ttl=2)
    link.until(message_id, "expired")
    return link, message_id


def maintained(stack: Stack, receiver: HttpReceiver) -> Made:
    link = Link(stack, receiver.url)
    window = {"until": soon(NEVER_S), "reason": "new disks"}
    assert stack.api("POST", f"systems/{link.target}/maintenance/", json=window).status_code == 201
    message_id = link.send()
    link.until(message_id, "pending", reason="maintenance")
    return link, message_id


def retired(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(500)
    link = Link(stack, receiver.url, retry_schedule_s=[NEVER_S])
    message_id = link.send()
    link.until(message_id, "pending", reason="retrying")
    link.act(f"systems/{link.target}/retire/", {"drain": False})
    link.until(message_id, "cancelled")
    return link, message_id


def cancelled(stack: Stack, receiver: HttpReceiver) -> Made:
    link, message_id = scheduled(stack, receiver)
    link.act(f"deliveries/{link.delivery(message_id)['id']}/cancel/")
    return link, message_id


def sent_again(stack: Stack, receiver: HttpReceiver) -> Made:
    receiver.answer(Answer(422, b"no such customer"), Answer(500, b"still broken"))
    link = Link(stack, receiver.url, retry_schedule_s=[NEVER_S])
    message_id = link.send()
    link.act(f"deliveries/{link.ended(message_id)['id']}/resend/")
    link.until(message_id, "pending", reason="retrying")
    return link, message_id


def removed(stack: Stack, receiver: HttpReceiver) -> Made:
    link, message_id = refused(stack, receiver)
    stack.sql("UPDATE messaging_message SET payload = NULL WHERE message_id = ?", message_id)
    return link, message_id


TARGET = "{source} -> {target}, "
# How it came to be, what its state and reason are, what is said of it, and what can be done.
TABLE: list[tuple[Callable[[Stack, HttpReceiver], Made], tuple[str, str], list[str], list[str]]] = [
    (
        retrying,
        ("pending", "retrying"),
        [
            TARGET + "waiting since ",
            ", tried three times in vain; {system}: it answered 500 twice and it answered 503 once, "
            "last 'deadlock detected'; no other waits for the same reason; next try ",
        ],
        ["cancel"],
    ),
    (
        paused,
        ("pending", "paused"),
        ["{system} is paused since ", " by key:", ", 'month end'; ", "; until "],
        ["resume_system", "cancel"],
    ),
    (
        paused_interface,
        ("pending", "paused"),
        [TARGET, "{target} is paused since ", ", 'new firewall'", "; until somebody resumes it; owner of"],
        ["resume_interface", "cancel"],
    ),
    (
        breaker,
        ("pending", "breaker"),
        ["{target} keeps failing, so sends are held back since ", ", 'answered 500", "; 14 others wait", "; one "],
        ["see_endpoint", "pause_system", "cancel"],
    ),
    (
        throttled,
        ("pending", "throttled"),
        ["{target} asks us to slow down since", "it answered 429 once, last 'too fast'", "next try ", "(in 10 min)"],
        ["see_endpoint", "cancel"],
    ),
    (
        rate_limited,
        ("pending", "rate_limited"),
        ["the rate of {target} (0.1 a second) is used up; ", " others wait", "it goes as soon as the rate allows"],
        ["see_endpoint", "cancel"],
    ),
    (
        blocked,
        ("pending", "blocked"),
        ["behind delivery {head} of key 'k 7', retrying since ", "; 2 others wait", "; that one is tried next "],
        ["why_head", "skip_head", "cancel"],
    ),
    (
        halted,
        ("pending", "blocked"),
        ["behind delivery {head} of key 'k 7', dead since ", "it moves on when that one is sent again or cancelled"],
        ["why_head", "resend_head", "skip_head", "cancel"],
    ),
    (halting, ("dead", "refused"), ["; 1 of the same key waits behind it"], ["resend", "skip"]),
    (scheduled, ("pending", "scheduled"), ["its sender wants it sent not before ", "; next try "], ["cancel"]),
    (new, ("pending", "new"), [", not tried yet; 1 other waits for the same reason; it is due now"], ["cancel"]),
    (sending, ("sending", "new"), ["being sent now, try 1; accepted ", "its worker holds it until "], ["see_message"]),
    (
        refused,
        ("dead", "refused"),
        [
            " after 1 try: {target} refused it; {system}: it answered 422 once, last 'no such customer'; ",
            "no other is dead for the same reason; owner of {system}: nobody",
        ],
        ["resend"],
    ),
    (
        exhausted,
        ("dead", "exhausted"),
        [": every one of 2 tries failed; {system}: it answered 500 twice, last 'boom'"],
        ["resend"],
    ),
    (
        untransformable,
        ("dead", "transform"),
        ["it could not be made into what {target} takes"],
        ["see_endpoint", "resend"],
    ),
    (
        disabled,
        ("skipped", "disabled"),
        [", not sent: {target} is disabled since ", " by key:", "it is sent only if somebody sends it again"],
        ["enable", "resend"],
    ),
    (
        delivered,
        ("delivered", "sent"),
        ["delivered ", " after 1 try, acknowledged by its application in "],
        ["see_message"],
    ),
    (expired, ("expired", "ttl"), ["expired ", "its time to live of 2 s was over", "it answered 500 once"], ["resend"]),
    (
        maintained,
        ("pending", "maintenance"),
        ["{target} is under maintenance since ", " by key:", ", 'new disks'; no other waits", "; until "],
        ["end_maintenance", "cancel"],
    ),
    (retired, ("cancelled", "retired"), [", after 1 try: {target} was retired by key:"], ["see_system"]),
    (cancelled, ("cancelled", "operator"), ["cancelled ", " by key:", "without a try"], ["resend"]),
    (sent_again, ("pending", "retrying"), ["waiting, sent again by key:", ", last 'still broken'"], ["cancel"]),
    (removed, ("dead", "refused"), ["its body was removed by retention (bodies are kept 30 days)"], []),
]


@pytest.mark.parametrize(("bring_about", "is_now", "said", "todo"), TABLE, ids=[row[0].__name__ for row in TABLE])
def test_each_reason_is_said_right(
    shared_stack: Stack,
    http_receiver: HttpReceiver,
    bring_about: Callable[[Stack, HttpReceiver], Made],
    is_now: tuple[str, str],
    said: list[str],
    todo: list[str],
) -> None:
    """Its state, since when and why, what was answered, who shares it, when it is tried next, and what to do."""
    link, message_id = bring_about(shared_stack, http_receiver)
    delivery = link.delivery(message_id)
    answer = shared_stack.api("GET", f"deliveries/{delivery['id']}/why/").json()

    words = {"source": link.source, "target": link.target, "system": link.target.partition("/")[0]}
    words["head"] = delivery["blocked_by"] or ""
    print(answer["text"])
    assert (answer["state"], answer["reason"]) == is_now
    for part in said:
        assert part.format(**words) in answer["text"]
    assert [name for name in todo if name not in {action["name"] for action in answer["actions"]}] == []
    for_message = shared_stack.api("GET", f"messages/{message_id}/why/?source_system={link.source}").json()
    assert for_message["state"] == is_now[0]
    listed = shared_stack.api("GET", f"find/?q={delivery['id']}").json()
    [step] = [step for hop in listed["hops"] for step in hop["deliveries"] if step["id"] == delivery["id"]]
    assert step["state"] == is_now[0]


def test_what_is_unrouted_or_was_never_accepted_is_said(shared_stack: Stack) -> None:
    """A message for nobody is found; one that was refused, or is long gone, is not known, and that is said."""
    link = Link(shared_stack, None)
    message_id = link.send(target_system=None, event_type="order.lost")
    answer = shared_stack.api("GET", f"messages/{message_id}/why/").json()
    refused = link.post(target_system="nobody-there", message_id=f"x-{message_id}")
    asked = shared_stack.command("why", f"x-{message_id}")

    assert (answer["state"], answer["reason"]) == ("unrouted", "unrouted")
    assert f"{link.source} -> nobody, unrouted since " in answer["text"]
    assert "no target was named and no route takes 'order.lost'" in answer["text"]
    assert refused.status_code == 422
    assert asked.returncode == 1
    assert "is not known here: it was never accepted, or it is older than retention" in asked.stdout
    assert "messages are kept for 90 days" in asked.stdout


def test_without_a_process_and_under_the_stop_it_is_said_who_holds_everything(
    make_stack: MakeStack, http_receiver: HttpReceiver
) -> None:
    """Nobody delivers; then somebody stopped everything; then the address is none that may be reached."""
    stack = make_stack()
    stack.start("web")
    link = Link(stack, http_receiver.url)
    message_id = link.send(search_keys={"order": 4711})

    def why() -> dict[str, Any]:
        done = stack.command("why", "4711", "--json")
        assert done.returncode == 0, done.stderr
        return dict(orjson.loads(done.stdout)["why"])

    idle = why()
    assert "besides, no deliver process is running" in idle["text"]
    assert idle["actions"][0]["command"] == "controlplane up"

    assert stack.command("pause", "--all", "--reason", "wrong prices").returncode == 0
    stopped = why()
    assert "besides, everything is paused since " in stopped["text"]
    assert "by command, 'wrong prices'; " in stopped["text"]
    assert "resume_all" in {action["name"] for action in stopped["actions"]}
    assert stack.command("resume", "--all").returncode == 0

    stack.start("deliver", env={"CONTROLPLANE_EGRESS_ZONES": "10.0.0.0/8"})
    link.ended(message_id)
    dead = why()
    assert (dead["state"], dead["reason"]) == ("dead", "address")
    assert f"the address of {link.target} is not allowed; {link.target}: its address was refused once" in dead["text"]


def test_what_takes_its_workers_down_is_said_so(make_stack: MakeStack, http_receiver: HttpReceiver) -> None:
    """After three losses alone it is poison."""
    stack = make_stack()
    stack.start("web")
    link = Link(stack, http_receiver.url)
    message_id = link.send()
    stack.sql("UPDATE messaging_delivery SET state = 'sending', losses = 3, lease_token = id, lease_until = created_at")
    stack.start("deliver")
    found = link.ended(message_id)
    shown = stack.command("why", found["id"])

    assert (found["state"], found["reason"]) == ("dead", "poison")
    assert "each worker that sent it was lost, so it is sent no more" in shown.stdout
    assert "the worker that sent it was lost once" in shown.stdout
    assert "[send again]" in shown.stdout.lower()
