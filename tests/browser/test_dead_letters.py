"""From the badge in the menu to the next step, in a real browser: one is tried before all."""

from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.browser.test_journey import WAIT_MS, register_endpoint, register_system, send
from tests.servers.http import HttpReceiver


def test_one_is_tried_and_the_page_says_when_to_send_the_others(visitor: Visitor, http_receiver: HttpReceiver) -> None:
    """Two died of one cause; the receiver is mended; the tried one arrives while one looks, and a job is one click."""
    page = visitor.page
    for slug in ("shop", "billing"):
        register_system(visitor, slug)
    register_endpoint(visitor, "billing", http_receiver)
    http_receiver.answer(422)
    for event in ("order.created", "order.changed"):
        send(visitor, event)
        expect(page.locator(".cp-card-head .cp-badge", has_text="dead")).to_be_visible(timeout=WAIT_MS)

    visitor.open("/admin/dead-letters/")
    expect(page.locator(".cp-causes tbody tr")).to_have_count(1)
    expect(page.locator(".cp-count")).to_have_text("2")
    http_receiver.answer(200)
    page.click("text=Try one")
    expect(page.locator("#tried")).to_contain_text("now send the other 1", timeout=WAIT_MS)
    page.click("#tried a.cp-button--primary")
    expect(page).to_have_url(f"{visitor.url}/admin/jobs/new/?action=redrive&dead_group={_group(visitor)}")

    visitor.open(f"/admin/dead-letters/{_group(visitor)}/")
    page.fill("textarea[name=note]", "mended at noon")
    page.click("text=Save note")
    page.click("text=Resolve…")
    page.click("text=Resolve 1")
    expect(page.locator("#content")).to_contain_text("Nothing is dead")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert visitor.faults == []


def _group(visitor: Visitor) -> str:
    answer = visitor.page.request.get(f"{visitor.url}/api/v1/dead-letters/groups/")
    return str(answer.json()["results"][0]["id"])
