"""The page that shows an event stream live, in a real browser."""

from playwright.sync_api import expect

from tests.acceptance.link import Link
from tests.browser.conftest import Visitor
from tests.stack import Stack

NOWHERE = "http://127.0.0.1:9/in"
ROWS = "#cp-stream-rows tr"


def test_what_is_accepted_shows_at_once_and_waits_while_paused(visitor: Visitor, stack: Stack) -> None:
    """Rows come by themselves, filtered; a pause loses nothing, and neither does a cut of the line."""
    link, page = Link(stack, NOWHERE), visitor.page
    visitor.open("/admin/")
    page.click("nav a:has-text('Live stream'), a[href='/admin/stream/']")
    state = page.locator("#cp-stream-state")
    expect(state).to_have_text("Live")
    expect(page.locator("#cp-stream-empty")).to_contain_text("Waiting for the next message")

    first = link.send(event_type="order.paid", payload={"n": "x" * 3000})
    expect(page.locator(ROWS)).to_have_count(1)
    expect(page.locator(ROWS)).to_contain_text("order.paid")
    expect(page.locator(ROWS)).to_contain_text(link.target)
    expect(page.locator(ROWS)).to_contain_text("2.9 KiB")
    expect(page.locator("#cp-stream-empty")).to_be_hidden()

    page.click("#cp-stream-pause")
    expect(state).to_have_text("Paused")
    link.send(event_type="order.made")
    link.send(event_type="invoice.paid")
    expect(page.locator(ROWS)).to_have_count(1)
    page.click("#cp-stream-pause")
    expect(page.locator(ROWS)).to_have_count(3)
    expect(page.locator(ROWS).first).to_contain_text("invoice.paid")

    page.fill("[name=event_type]", "order.*")
    page.keyboard.press("Enter")
    expect(page.locator(ROWS)).to_have_count(0)
    link.send(event_type="invoice.sent")
    link.send(event_type="order.sent")
    expect(page.locator(ROWS)).to_have_count(1)
    expect(page.locator(ROWS)).to_contain_text("order.sent")
    assert "event_type=order." in page.url

    page.fill("[name=event_type]", "*")
    page.keyboard.press("Enter")
    expect(page.locator("#cp-stream-error")).to_contain_text("order.*")
    page.fill("[name=event_type]", "")
    page.keyboard.press("Enter")
    expect(state).to_have_text("Live")
    last = link.send(event_type="<b>bold</b>")
    expect(page.locator(ROWS)).to_contain_text("<b>bold</b>")
    page.click(f"{ROWS} a")
    expect(page.locator("#content")).to_contain_text(last)
    assert first != last
    assert visitor.faults == []


def test_a_line_that_was_cut_goes_on_where_it_was(visitor: Visitor, stack: Stack) -> None:
    """The server goes away and comes back: what was accepted meanwhile, by another process, shows too."""
    link, page = Link(stack, NOWHERE), visitor.page
    visitor.open("/admin/stream/")
    state = page.locator("#cp-stream-state")
    expect(state).to_have_text("Live")
    link.send(event_type="before")
    expect(page.locator(ROWS)).to_have_count(1)
    other = Stack(stack.var, stack.database_url)
    try:
        other.start("web", name="other")
        stack.kill("web")
        expect(state).to_have_text("Reconnecting")
        answer = other.api("POST", "messages/", json=link.message(event_type="meanwhile"), key=stack.key())
        assert answer.status_code == 202
    finally:
        other.close()
    stack.start("web")
    expect(page.locator(ROWS)).to_have_count(2)
    expect(page.locator(ROWS).first).to_contain_text("meanwhile")
