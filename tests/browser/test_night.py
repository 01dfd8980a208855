"""The night: an endpoint breaks with 12,000 waiting; from the notice to the drain in a few clicks; 4711 is found."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver, Received
from tests.stack import Databases, Stack

WAITING = 12_000
PACE = 600
MOST_CLICKS = 5
QUICK = {"CONTROLPLANE_INCIDENT_SETTLE_S": "2", "CONTROLPLANE_INCIDENT_GATHER_S": "1"}


class Erp:
    """A receiver that a person mends; one message it never takes."""

    def __init__(self, receiver: HttpReceiver) -> None:
        self.receiver, self.is_broken = receiver, True
        receiver.answer(self)

    def __call__(self, request: Received) -> Answer:
        if self.is_broken:
            return Answer(500, b"deadlock detected on table orders")
        return Answer(422, b"order 13 has no customer") if b'"order":13,' in request.body else Answer(200)

    def arrived(self) -> list[Received]:
        """Return what it took, or refused for good, since it was mended."""
        return list(self.receiver.received)


class Hand:
    """A person's mouse and keyboard: counts clicks, and keeps a picture of each step."""

    def __init__(self, page: Page, pictures: Path) -> None:
        self.page, self.pictures, self.clicks = page, pictures, 0

    def click(self, words: str) -> None:
        self.page.get_by_role("button", name=words, exact=True).first.click()
        self.clicks += 1

    def look(self, name: str) -> None:
        self.page.screenshot(path=self.pictures / f"{name}.png", full_page=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield a fresh database of each engine in turn."""
    databases: Databases = request.getfixturevalue(
        {"sqlite": "sqlite_databases"}.get(request.param, "postgres_databases")
    )
    with databases.fresh() as url:
        yield url


@pytest.fixture
def stack(make_stack: Any) -> Stack:
    """Return a stack with everything running that a night needs."""
    stack: Stack = make_stack(**QUICK)
    for role in ("web", "deliver", "worker", "monitor"):
        stack.start(role)
    return stack


@pytest.fixture
def chat() -> Iterator[HttpReceiver]:
    with HttpReceiver() as receiver:
        yield receiver


def test_the_night(
    visitor: Visitor, stack: Stack, http_receiver: HttpReceiver, chat: HttpReceiver, tmp_path: Path
) -> None:
    """One notice; from its link to the drain in five clicks at most; paced, paused, resumed; 4711 found; one notice."""
    erp, hand = Erp(http_receiver), Hand(visitor.page, tmp_path)
    register(stack, http_receiver, chat)
    send_all(stack)
    [opened] = notices(stack, chat, 1)

    link = urlsplit(opened["url"])
    began = time.monotonic()
    visitor.open(f"{link.path}?{link.query}")
    hand.clicks += 1
    content = visitor.page.locator("#content")
    for said in ("erp", "500", "deadlock detected", "Team ERP", "https://wiki.example/erp", "5,000+"):
        expect(content).to_contain_text(said)
    hand.look("1-incident")
    erp.is_broken = False  # the runbook was followed
    http_receiver.clear()
    visitor.page.fill("[name=rate]", str(PACE))
    hand.click("Try now, then drain")
    expect(content).to_contain_text("Drained at")
    took_s = time.monotonic() - began
    hand.look("2-drain")
    clicks = hand.clicks
    assert clicks <= MOST_CLICKS
    assert took_s < 60, f"{took_s:.0f} s from the link to the drain"

    stack.wait_for(lambda: len(erp.arrived()) > 2 * PACE, 60, "the drain to run")
    hand.click("Pause endpoint")
    visitor.page.fill("[name=reason]:visible", "a look at the first ones")
    hand.click("Pause now")
    expect(content).to_contain_text("paused")
    stack.wait_for(lambda: not states(stack)["sending"], 20, "what was on its way to end")
    held = len(erp.arrived())
    find_4711(visitor, hand)
    assert len(erp.arrived()) == held < WAITING
    hand.look("3-found")

    visitor.open(link.path)
    hand.click("Resume endpoint")
    stack.wait_for(lambda: not {"pending", "sending"} & states(stack).keys(), 120, "everything to end")
    assert states(stack) == {"delivered": WAITING - 1, "dead": 1}
    most = busiest_second([request.at for request in erp.arrived()])
    assert most <= PACE * 1.35, f"{most} within a second"

    visitor.open("/admin/dead-letters/")
    expect(content).to_contain_text("has no customer")
    hand.look("4-dead-letters")
    told = notices(stack, chat, 2)
    assert [notice["event"] for notice in told] == ["incident.opened", "incident.resolved"]
    visitor.open(link.path)
    expect(content).to_contain_text("Resolved after")
    hand.look("5-resolved")
    assert visitor.faults == []
    print(f"from the link to the drain: {clicks} clicks, {took_s:.1f} s; pictures in {tmp_path}")


def register(stack: Stack, receiver: HttpReceiver, chat: HttpReceiver) -> None:
    """Register the shop, the ERP with its people, and the chat that is told."""
    stack.register("webshop")
    stack.register("erp", receiver.url, max_in_flight=64)
    stack.register("chat", chat.url)
    facts = {"contact": "Team ERP, +1 555 0100", "runbook_url": "https://wiki.example/erp"}
    assert stack.api("PATCH", "systems/erp/", json=facts).status_code == 200
    keys = {"search_keys": [{"name": "order", "from": "payload.$.order"}]}
    assert stack.api("PATCH", "systems/webshop/", json=keys).status_code == 200
    assert stack.api("POST", "notice-targets/", json={"target": "chat"}).status_code == 201


def send_all(stack: Stack) -> None:
    """Have all orders accepted, 4711 and the poisonous 13 among them."""
    lines = b"\n".join(
        orjson.dumps({"source_system": "webshop", "target_system": "erp", "payload": {"order": number, "paid": True}})
        for number in range(WAITING)
    )
    answer = stack.api("POST", "messages/", data=lines, headers={"Content-Type": "application/x-ndjson"})
    assert answer.json()["accepted"] == WAITING, answer.text


def notices(stack: Stack, chat: HttpReceiver, count: int) -> list[dict[str, Any]]:
    """Return what the chat was told, each notice once, when it is `count` of them."""

    def told() -> dict[str, Any]:
        return {request.headers["webhook-id"]: orjson.loads(request.body) for request in list(chat.received)}

    stack.wait_for(lambda: len(told()) >= count, 90, f"{count} notices")
    found = list(told().values())
    assert len(found) == count, found
    return found


def find_4711(visitor: Visitor, hand: Hand) -> None:
    """The number alone leads to its message, from wherever one is."""
    visitor.page.keyboard.press("/")
    visitor.page.keyboard.type("4711")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#content")).to_contain_text("4711")
    expect(visitor.page.locator("#content")).to_contain_text("webshop")
    expect(visitor.page.locator("#content")).to_contain_text("erp")


def states(stack: Stack) -> Counter[str]:
    """Return how many deliveries to the ERP are in each state."""
    rows = stack.sql(
        "SELECT d.state, count(*) FROM messaging_delivery d JOIN endpoints_system s ON s.id = d.system_id"
        " WHERE s.slug = 'erp' GROUP BY d.state"
    )
    return Counter(dict(rows))


def busiest_second(times: list[float]) -> int:
    """Return how many came within the busiest second."""
    ordered, first, most = sorted(times), 0, 0
    for last, at in enumerate(ordered):
        first = next(place for place in itertools.count(first) if ordered[place] > at - 1)
        most = max(most, last - first + 1)
    return most
