"""From a dead letter to a test of it, in a real browser: made, run, watched to its end, understood, and kept."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.test_journey import WAIT_MS, register_endpoint, register_system, send
from tests.servers.http import Answer, HttpReceiver
from tests.stack import Stack

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
    """Make a test; save; run; the page moves by itself to the end and says what was expected and what came."""
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
    _break_and_mend(page)
    page.click("text=Save")
    expect(page).to_have_url(f"{visitor.url}/admin/suites/{SLUG}/")

    http_receiver.answer(Answer(422, REFUSED, JSON, delay_s=3))
    page.click("text=Run now")
    expect(page.locator("[data-refresh]")).to_contain_text("Under way", timeout=WAIT_MS)
    expect(page.locator("[data-refresh]")).to_contain_text("send message")
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


def _break_and_mend(page: Page) -> None:
    """Write a fault into the text: the line is marked at once, the fault leads to it, and undoing takes it out."""
    page.locator("#cp-editor-text").evaluate("area => area.setSelectionRange(0, 0)")
    page.locator("#cp-editor-text").press_sequentially("oops: 1\n")
    expect(page.locator(".cp-faults li")).to_contain_text("unknown key 'oops'")
    expect(page.locator(".cp-editor-bad")).to_have_text("1")
    page.locator("#cp-editor-text").evaluate("area => area.setSelectionRange(200, 200)")
    page.click(".cp-faults button")
    assert page.evaluate("document.activeElement.selectionStart") == 0
    page.keyboard.press("Shift+End")
    page.keyboard.press("Delete")
    page.keyboard.press("Delete")
    expect(page.locator("#cp-editor-checked")).to_contain_text("no faults")
