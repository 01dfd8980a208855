"""From the notice of an incident to what mends it: in a browser, click by click."""

import os
from pathlib import Path

import orjson
from playwright.sync_api import expect

from tests.acceptance.link import Link
from tests.browser.conftest import Visitor
from tests.servers.http import HttpReceiver
from tests.stack import Stack

QUICK = {"CONTROLPLANE_INCIDENT_SETTLE_S": "2", "CONTROLPLANE_INCIDENT_GATHER_S": "1"}
MOST_CLICKS = 5


def test_a_notice_leads_to_the_drain_within_five_clicks(
    visitor: Visitor, stack: Stack, http_receiver: HttpReceiver
) -> None:
    """The link, what is broken and why, one button that tries and drains; soon the same link says resolved."""
    stack.start("monitor", env=QUICK)
    with HttpReceiver() as chat:
        stack.register("chat", chat.url)
        assert stack.api("POST", "notice-targets/", json={"target": "chat"}).status_code == 201
        link = Link(stack, http_receiver.url)
        http_receiver.answer(500)
        stack.api("POST", "messages/", json=[link.message() for _ in range(30)])
        notice = orjson.loads(chat.wait_for(1, 60)[0].body)
        page, clicks = visitor.page, 1
        page.goto(notice["url"])
        expect(page.get_by_text("keeps failing").first).to_be_visible()
        expect(page.get_by_text("nothing is lost")).to_be_visible()
        keep(visitor, "incident")
        http_receiver.answer(200)
        page.get_by_role("button", name="Try now, then drain").click()
        clicks += 1
        expect(page.get_by_text("the rest follows at 200 a second")).to_be_visible()
        keep(visitor, "drain")
        chat.wait_for(2, 60)
        page.goto(notice["url"])
        expect(page.get_by_text("Resolved after")).to_be_visible()
        keep(visitor, "resolved")

    assert clicks <= MOST_CLICKS
    assert not visitor.faults


def keep(visitor: Visitor, name: str) -> None:
    """Keep a picture of the page, wide and on a phone, where SCREENSHOTS names a folder for them."""
    if folder := os.environ.get("SCREENSHOTS"):
        for size, width in (("wide", 1280), ("phone", 390)):
            visitor.page.set_viewport_size({"width": width, "height": 900})
            visitor.page.screenshot(path=Path(folder) / f"{name}-{size}.png", full_page=True)
        visitor.page.set_viewport_size({"width": 1280, "height": 900})
