"""From a dead letter to a test of it, in a real browser: made, run, watched to its end, understood, and kept."""

import asyncio
import re
import threading
from datetime import UTC, datetime

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.test_journey import WAIT_MS, register_endpoint, register_system, send
from tests.servers.answers import head
from tests.servers.http import Answer, HttpReceiver
from tests.stack import Stack
from tests.testing.test_schedules import set_next

JSON = {"Content-Type": "application/json"}
REFUSED = b'{"error": "no such customer"}'
PAGES = (
    "/admin/suites/",
    "/admin/suites/shop-to-billing-order-paid/",
    "/admin/suites/shop-to-billing-order-paid/edit/",
    "/admin/suites/shop-to-billing-order-paid/versions/",
    "/admin/suites/draft/",
    "/admin/suites/import/",
)
SLUG = "shop-to-billing-order-paid"


def test_a_dead_letter_becomes_a_test_that_is_watched_and_understood(
    visitor: Visitor, stack: Stack, http_receiver: HttpReceiver
) -> None:
    """Make a test; save it with a schedule; its tick comes; the page moves to the end and says what came instead."""
    page = visitor.page
    stack.start("worker")
    for slug in ("shop", "billing"):
        register_system(visitor, slug)
    register_endpoint(visitor, "billing", http_receiver)
    http_receiver.answer(Answer(422, REFUSED, JSON))
    send(visitor, "order.paid")
    expect(page.locator(".cp-card-head .cp-badge", has_text="dead")).to_be_visible(timeout=WAIT_MS)

    visitor.open("/admin/dead-letters/")
    page.click(".cp-causes a.cp-cause")
    page.click("text=Make a test")
    text = page.locator("#cp-editor-text")
    expect(text).to_have_value(re.compile("status: {eq: delivered}"))
    expect(page.locator("#cp-editor-checked")).to_contain_text("no faults")
    _break_and_schedule(page)
    page.click("text=Save")
    expect(page).to_have_url(f"{visitor.url}/admin/suites/{SLUG}/")

    expect(page.locator("#content")).to_contain_text("0 4 * * 1 on the clock of Europe/Amsterdam; next")
    released = threading.Event()
    http_receiver.answer(held_back(released))
    set_next(stack, datetime.now(UTC))  # its tick comes
    stack.wait_for(lambda: stack.api("GET", f"runs/?suite={SLUG}&state=running").json()["results"], 60, "a run")
    page.reload()
    page.click("text=Latest runs >> xpath=../.. >> td.cp-main a")
    expect(page.locator("[data-refresh]")).to_contain_text("Under way", timeout=WAIT_MS)
    expect(page.locator("[data-refresh]")).to_contain_text("send message")
    released.set()
    expect(page.locator(".cp-answer--bad")).to_contain_text("expected 'delivered', got 'dead'", timeout=WAIT_MS)
    told = page.locator("#content")
    for words in ("What went wrong first", "between: [200, 299]", "422", "no such customer", SLUG):
        expect(told).to_contain_text(words)
    _read_report(page)
    page.set_viewport_size({"width": 390, "height": 844})
    for path in (page.url, *(visitor.url + path for path in PAGES)):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    assert visitor.faults == []


def held_back(released: threading.Event) -> Answer:
    """Refuse once a test says so: what runs is seen to run, however slow the machine is."""

    async def refuse(writer: asyncio.StreamWriter) -> None:
        await asyncio.to_thread(released.wait, 60)
        writer.write(head(422, {**JSON, "Content-Length": str(len(REFUSED))}) + REFUSED)
        await writer.drain()

    return Answer(fault=refuse)


def _read_report(page: Page) -> None:
    """Open the HTML report in its tab: it says the same, and asks nobody for anything."""
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    with page.expect_popup() as opened:
        page.get_by_role("link", name="HTML", exact=True).click()
    report = opened.value
    for words in ("expected 'delivered', got 'dead'", "no such customer"):
        expect(report.locator("body")).to_contain_text(words)
    assert [url for url in asked if not url.endswith("/report.html")] == []
    report.close()


def _break_and_schedule(page: Page) -> None:
    """Write a fault into the text: its line is marked at once, it leads there, and a schedule takes its place."""
    page.locator("#cp-editor-text").evaluate("area => area.setSelectionRange(0, 0)")
    page.locator("#cp-editor-text").press_sequentially("oops: 1\n")
    expect(page.locator(".cp-faults li")).to_contain_text("unknown key 'oops'")
    expect(page.locator(".cp-editor-bad")).to_have_text("1")
    page.locator("#cp-editor-text").evaluate("area => area.setSelectionRange(200, 200)")
    page.click(".cp-faults button")
    assert page.evaluate("document.activeElement.selectionStart") == 0
    page.keyboard.press("Shift+End")
    page.keyboard.type('schedule: {cron: "0 4 * * 1", timezone: Europe/Amsterdam}')
    expect(page.locator("#cp-editor-checked")).to_contain_text("no faults")
