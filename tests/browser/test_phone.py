"""Pages of one thing on a phone, with times that are not of today and so are written in full."""

from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.stack import Stack

WIDTH = 390
BESIDE = """() => [...document.querySelectorAll('.cp-facts dd')].map(cell => {
    const inside = document.createRange(); inside.selectNodeContents(cell);
    return [inside.getBoundingClientRect().right, cell.getBoundingClientRect().right];
})"""


def test_times_of_days_gone_by_stay_in_their_places(visitor: Visitor, stack: Stack) -> None:
    """No line of a fact reaches into the next one, and nothing is to be scrolled to the side."""
    stack.register("shop")
    stack.register("crm", "http://127.0.0.1:9/in")
    sent = {"source_system": "shop", "target_system": "crm", "payload": {"n": 1}, "timestamp": "2026-01-02T03:04:05Z"}
    assert stack.api("POST", "messages/", json=sent).status_code == 202
    [[position]] = stack.sql("SELECT position FROM messaging_message")
    page = visitor.page
    page.set_viewport_size({"width": WIDTH, "height": 844})
    page.goto(f"{stack.url}/admin/messaging/message/{position}/change/")
    expect(page.get_by_text("2026-01-02 03:04:05").first).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    facts = page.evaluate(BESIDE)
    assert facts
    assert [fact for fact in facts if fact[0] > fact[1] + 1] == []
    assert not visitor.faults
