"""Incidents over real processes: what breaks is told once, what heals is told once, whoever is killed meanwhile."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from tests.acceptance.link import Link
from tests.servers.http import HttpReceiver, Received
from tests.servers.smtp import SmtpServer
from tests.stack import Stack

MakeStack = Callable[..., Stack]
QUICK = {
    "CONTROLPLANE_INCIDENT_SETTLE_S": "2",
    "CONTROLPLANE_INCIDENT_GATHER_S": "1",
}
HEALS_S = 60
NOTICE = (
    "INSERT INTO endpoints_notice (id, target_id, told, kind, round, payload, state, tries, next_at, error, created_at)"
    " VALUES (?, ?, 'night', 'opened', 0, ?, 'pending', 0, '2026-01-01 00:00:00', '', '2026-01-01 00:00:00')"
)


@pytest.fixture
def chat() -> Iterator[HttpReceiver]:
    """Yield a receiver of notices, as a chat's incoming webhook is one."""
    with HttpReceiver() as receiver:
        yield receiver


def watched(make_stack: MakeStack, chat: HttpReceiver, **settings: str) -> Stack:
    """Return a stack with everything running, whose notices go to `chat`."""
    stack = make_stack(**{**QUICK, **settings})
    for role in ("web", "deliver", "monitor"):
        stack.start(role)
    stack.register("chat", chat.url)
    answer = stack.api("POST", "notice-targets/", json={"target": "chat"})
    assert answer.status_code == 201, answer.text
    return stack


def said(chat: HttpReceiver) -> list[dict[str, Any]]:
    """Return the notices that arrived, each once: a retry of ours would carry the same id."""
    found: dict[str, Received] = {}
    for request in list(chat.received):
        found.setdefault(request.headers["webhook-id"], request)
    return [orjson.loads(request.body) for request in found.values()]


def events(chat: HttpReceiver) -> list[str]:
    return [notice["event"] for notice in said(chat)]


def break_it(link: Link, receiver: HttpReceiver, count: int = 12) -> None:
    """Have so many messages fail that the breaker opens."""
    receiver.answer(500)
    answer = link.stack.api("POST", "messages/", json=[link.message() for _ in range(count)])
    assert answer.json()["accepted"] == count, answer.text


def incidents(stack: Stack, **query: str) -> list[dict[str, Any]]:
    answer = stack.api("GET", "incidents/", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def test_a_broken_endpoint_is_told_once_and_its_healing_once_over_a_killed_monitor(
    make_stack: MakeStack, http_receiver: HttpReceiver, chat: HttpReceiver
) -> None:
    """The breaker opens: one notice. It closes: one notice. SIGKILL of the monitor in between changes neither."""
    stack = watched(make_stack, chat)
    link = Link(stack, http_receiver.url)
    break_it(link, http_receiver)
    chat.wait_for(1, HEALS_S)
    stack.kill("monitor")
    stack.start("monitor")
    stack.start("monitor", name="monitor-2")
    [incident] = incidents(stack, open="true")
    http_receiver.answer(200)
    chat.wait_for(2, HEALS_S)
    stack.wait_for(lambda: incidents(stack, open="false"), 20, "a resolved incident")

    opened, resolved = said(chat)
    assert (opened["event"], resolved["event"]) == ("incident.opened", "incident.resolved")
    assert {opened["incident_id"], resolved["incident_id"]} == {incident["id"]}
    assert opened["system"] == link.target
    assert opened["cause"] == "breaker"
    assert opened["url"] == f"{stack.url}/admin/incidents/{incident['id']}/"
    assert "500" in opened["text"]


def test_ten_endpoints_of_a_broken_host_with_ten_thousand_messages_send_two_notices(
    make_stack: MakeStack, http_receiver: HttpReceiver, chat: HttpReceiver
) -> None:
    """One when the host breaks, one when the last of its endpoints is well again; nothing is lost meanwhile."""
    stack = watched(make_stack, chat)
    http_receiver.answer(503)
    http_receiver.is_keeping = False
    links = [Link(stack, f"{http_receiver.url}/{number}") for number in range(10)]
    for link in links:
        break_it(link, http_receiver, 1000)
    stack.wait_for(lambda: len(incidents(stack, open="true")) == 10, HEALS_S, "ten open incidents")
    chat.wait_for(1, HEALS_S)
    http_receiver.answer(200)
    chat.wait_for(2, 2 * HEALS_S)
    stack.wait_for(lambda: len(incidents(stack, open="false")) == 10, HEALS_S, "ten resolved incidents")
    delivered = "SELECT count(*) FROM messaging_delivery WHERE state = 'delivered'"
    stack.wait_for(lambda: stack.sql(delivered)[0][0] == 10_002, 2 * HEALS_S, "all delivered")

    assert events(chat) == ["incident.opened", "incident.resolved"]


def test_a_process_that_keeps_dying_is_told_by_mail_without_it(make_stack: MakeStack) -> None:
    """The monitor mails by itself, so it can tell that nobody sends; a mail server that refuses is asked again."""
    with SmtpServer(refusals=1) as server:
        stack = make_stack(**QUICK, EMAIL_URL=server.url)
        stack.start("web")
        stack.start("monitor")
        stack.start("monitor", name="monitor-2")
        assert stack.api("POST", "notice-targets/", json={"email": "night@example.com"}).status_code == 201
        for restarts in ("1", "2", "3"):
            before = stack.sql("SELECT count(*) FROM messaging_process WHERE role = 'deliver'")[0][0]
            stack.start("deliver", env={"CONTROLPLANE_RESTARTS": restarts})
            count = "SELECT count(*) FROM messaging_process WHERE role = 'deliver'"
            stack.wait_for(lambda: stack.sql(count)[0][0] > before, 30, "a beat of deliver")  # noqa: B023
            stack.kill("deliver")
        [mail] = server.wait_for(1, HEALS_S)
        [incident] = incidents(stack, open="true")

    assert incident["causes"][0]["cause"] == "dying"
    assert mail["To"] == "night@example.com"
    assert mail["Subject"].replace("\n", "").startswith("OPEN: deliver on ")
    assert f"{stack.url}/admin/incidents/{incident['id']}/" in mail.get_payload(decode=True).decode()
    assert (len(server.mails), server.attempts) == (1, 2)


def test_a_mail_server_that_hangs_holds_up_no_other_notice(
    make_stack: MakeStack, http_receiver: HttpReceiver, chat: HttpReceiver
) -> None:
    """Mails go out beside the judging; a test notice shows that a target works."""
    with SmtpServer() as server:
        server.hangs = True
        stack = watched(make_stack, chat, EMAIL_URL=server.url)
        stack.api("POST", "notice-targets/", json={"email": "night@example.com"})
        link = Link(stack, http_receiver.url)
        break_it(link, http_receiver)
        chat.wait_for(1, 20)
        [target] = stack.api("GET", "notice-targets/", params={"target": "chat"}).json()["results"]
        stack.api("POST", f"notice-targets/{target['id']}/test/", json={})
        chat.wait_for(2, 20)
        stack.kill("monitor")

    assert events(chat) == ["incident.opened", "incident.test"]


def test_a_notice_that_cannot_be_mailed_says_so_and_holds_up_no_other(make_stack: MakeStack) -> None:
    """A bug with one of them costs a try of that one, on the record; a line break in what failed breaks no header."""
    with SmtpServer() as server:
        stack = make_stack(**QUICK, EMAIL_URL=server.url)
        stack.start("web")
        answer = stack.api("POST", "notice-targets/", json={"email": "night@example.com"})
        for payload in ("{}", orjson.dumps({"text": "OPEN: erp\rBcc: x@example.com\x07\nmore"}).decode()):
            stack.sql(NOTICE, uuid.uuid4().hex, answer.json()["id"].replace("-", ""), payload)
        stack.start("monitor")
        [mail] = server.wait_for(1, HEALS_S)
        broken = "SELECT tries, error FROM endpoints_notice WHERE state = 'pending'"
        [found] = stack.wait_for(lambda: [row for row in stack.sql(broken) if row[0]], HEALS_S, "a counted try")

    assert (mail["Subject"], mail["Bcc"]) == ("OPEN: erp Bcc: x@example.com", None)
    assert tuple(found) == (1, "it could not be made into a mail: KeyError")
    assert "mail_broken" in stack.log("monitor", 200)


def test_a_parent_speaks_for_a_child_and_a_child_that_outlives_it_for_itself(
    make_stack: MakeStack, http_receiver: HttpReceiver, chat: HttpReceiver
) -> None:
    """The shop depends on the ERP: both are down, one notice; the ERP heals, the shop does not: it is told then."""
    stack = watched(make_stack, chat)
    with HttpReceiver(host="::1") as other:
        parent, child = Link(stack, http_receiver.url), Link(stack, other.url)
        depends = stack.api("PATCH", f"systems/{child.target}/", json={"depends_on": [parent.target]})
        assert depends.status_code == 200, depends.text
        break_it(child, other)
        break_it(parent, http_receiver)
        chat.wait_for(1, HEALS_S)
        stack.wait_for(lambda: len(incidents(stack, open="true")) == 2, 20, "both broken")
        http_receiver.answer(200)
        chat.wait_for(3, HEALS_S)
        other.answer(200)
        chat.wait_for(4, HEALS_S)

    found = [(notice["event"].removeprefix("incident."), notice["system"]) for notice in said(chat)]
    assert found[0] == ("opened", parent.target)
    assert sorted(found[1:3]) == [("opened", child.target), ("resolved", parent.target)]
    assert found[3:] == [("resolved", child.target)]
