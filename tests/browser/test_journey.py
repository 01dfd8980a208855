"""A newcomer's first ten minutes, in a real browser against real processes."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.servers.http import HttpReceiver
from tests.stack import Stack

WAIT_MS = 60_000
PAGES = (
    "/admin/",
    "/admin/messaging/delivery/",
    "/admin/messaging/message/",
    "/admin/systems/shop/",
    "/admin/systems/shop/#connect",
    "/admin/send/",
    "/admin/find/",
    "/admin/find/?q=4711",
    "/admin/endpoints/system/",
    "/admin/endpoints/endpoint/add/",
)


def test_register_send_break_and_send_again(visitor: Visitor, http_receiver: HttpReceiver) -> None:
    """Register; see a message delivered, the next one dead with its reason, and that one delivered too."""
    page = visitor.page
    for slug in ("shop", "billing"):
        register_system(visitor, slug)
    register_endpoint(visitor, "billing", http_receiver)

    send(visitor, "order.created")
    expect(page.locator(".cp-card-head .cp-badge", has_text="delivered")).to_be_visible(timeout=WAIT_MS)
    assert http_receiver.wait_for(1)[0].body == b'{"order":4711,"status":"paid"}'

    http_receiver.answer(422)
    send(visitor, "order.cancelled")
    expect(page.locator(".cp-card-head .cp-badge", has_text="dead")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#content")).to_contain_text("refused")
    expect(page.locator("#content")).to_contain_text("422")
    visitor.open("/admin/")
    expect(page.locator("[data-panel=answer]")).to_contain_text("1 delivery is dead")
    page.click("text=Show the oldest one")

    http_receiver.answer(200)
    page.click("text=Send again")
    expect(page.locator(".cp-card-head .cp-badge", has_text="delivered")).to_be_visible(timeout=WAIT_MS)
    assert visitor.faults == []


def test_the_dashboard_moves_by_itself(visitor: Visitor, http_receiver: HttpReceiver) -> None:
    """What arrives while somebody looks shows without a reload."""
    for slug in ("shop", "billing"):
        register_system(visitor, slug)
    register_endpoint(visitor, "billing", http_receiver)
    http_receiver.answer(404)
    visitor.open("/admin/")
    expect(visitor.page.locator("#cp-live-state")).to_have_attribute("data-state", "live", timeout=WAIT_MS)

    other = visitor.page.context.new_page()
    other.goto(f"{visitor.url}/admin/send/?source=shop&target=billing")
    other.click("form.cp button.cp-button--primary")

    expect(visitor.page.locator("[data-panel=answer]")).to_contain_text("dead", timeout=WAIT_MS)
    assert visitor.faults == []


def test_two_keys_go_to_the_find_box_and_escape_leaves_it(visitor: Visitor) -> None:
    """On every page; what is typed there leads to the hops of it."""
    box = visitor.page.locator("[data-find]")
    for path in ("/admin/messaging/delivery/", "/admin/", "/admin/endpoints/system/"):
        visitor.open(path)
        for key in ("/", "Control+k"):
            visitor.page.keyboard.press(key)
            expect(box).to_be_focused()
            visitor.page.keyboard.press("Escape")
            expect(box).not_to_be_focused()
    visitor.page.keyboard.press("Control+k")
    visitor.page.keyboard.type("4711")
    visitor.page.keyboard.press("Enter")

    expect(visitor.page).to_have_url(re.compile(r"/admin/find/\?q=4711$"))
    expect(visitor.page.locator(".cp-empty")).to_contain_text("'4711' is not known here")
    assert visitor.faults == []


def test_an_order_is_found_by_its_number_in_one_step(visitor: Visitor, http_receiver: HttpReceiver) -> None:
    """Where it went, and why it did not arrive, with the button that mends it."""
    for slug in ("shop", "billing"):
        register_system(visitor, slug)
    register_endpoint(visitor, "billing", http_receiver)
    http_receiver.answer(404)
    send(visitor, "order.created", correlation_id="order 4711")
    expect(visitor.page.locator(".cp-card-head .cp-badge", has_text="dead")).to_be_visible(timeout=WAIT_MS)
    expect(visitor.page.locator(".cp-why")).to_contain_text("billing refused it; billing: it answered 404 once")

    visitor.page.keyboard.press("/")
    visitor.page.keyboard.type("order 4711")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator(".cp-why")).to_contain_text("it answered 404 once")
    expect(visitor.page.locator(".cp-hop")).to_have_count(1)
    http_receiver.answer(200)
    visitor.page.click("text=Send again")

    expect(visitor.page.locator(".cp-card-head .cp-badge", has_text="delivered")).to_be_visible(timeout=WAIT_MS)
    assert visitor.faults == []


def test_where_there_is_no_room_for_the_box_the_keys_go_to_its_page(visitor: Visitor) -> None:
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    visitor.open("/admin/messaging/delivery/")
    visitor.page.keyboard.press("/")

    expect(visitor.page).to_have_url(re.compile("/admin/find/$"))
    expect(visitor.page.locator("[data-find-main]")).to_be_focused()


def test_no_page_is_wider_than_a_phone(visitor: Visitor) -> None:
    """At 390 pixels nothing scrolls sideways."""
    register_system(visitor, "shop")
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    for path in PAGES:
        visitor.open(path)
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_the_longest_names_that_are_allowed_push_no_page_aside(visitor: Visitor, stack: Stack) -> None:
    """An id, an event type, a key and a slug of full length break or are cut; the whole id is in the title."""
    long, key = "m" * 128, f"{'k' * 50}=" + "c" * 200
    target = "s" * 63
    stack.register("shop", system_fields={"accepts_from": ["*"]})
    stack.register(target, "http://127.0.0.1:9/in", system_fields={"accepts_from": ["*"]})
    body = {"source_system": "shop", "target_system": target, "message_id": long, "event_type": "e" * 200}
    more = {"correlation_id": "c" * 128, "ordering_key": "o" * 128, "search_keys": {"k" * 50: "c" * 200}, "payload": {}}
    assert stack.api("POST", "messages/", json={**body, **more}).status_code == 202
    paths = [
        "/admin/messaging/delivery/",
        "/admin/messaging/message/",
        f"/admin/find/?q={key}",
        f"/admin/find/?q={long}",
    ]
    paths += ["/admin/systems/shop/", f"/admin/systems/{target}/", "/admin/endpoints/system/add/"]

    for width in (1280, 390):
        visitor.page.set_viewport_size({"width": width, "height": 844})
        for path in paths:
            visitor.open(path)
            assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width, (width, path)
    visitor.open("/admin/messaging/message/")
    expect(visitor.page.locator(f"[title={long}]")).to_be_visible()


def register_system(visitor: Visitor, slug: str) -> None:
    visitor.open("/admin/endpoints/system/add/")
    visitor.page.fill("#id_slug", slug)
    visitor.page.fill("#id_name", slug.title())
    visitor.page.click("button[name=_save]")
    expect(visitor.page).to_have_url(re.compile("/admin/endpoints/system/$"))


def register_endpoint(visitor: Visitor, slug: str, receiver: HttpReceiver) -> None:
    page = visitor.page
    visitor.open(f"/admin/systems/{slug}/")
    page.click("text=Add an endpoint >> nth=0")
    page.select_option("#id_protocol", "http")
    page.fill("#id_host", receiver.host)
    page.fill("#id_port", str(receiver.port))
    page.fill("#id_path", "/in")
    page.click("button[name=_save]")
    expect(page).to_have_url(re.compile("/admin/endpoints/endpoint/$"))


def send(visitor: Visitor, event_type: str, correlation_id: str = "") -> None:
    visitor.open("/admin/send/?source=shop&target=billing")
    visitor.page.fill("#id_event_type", event_type)
    visitor.page.fill("#id_correlation_id", correlation_id)
    visitor.page.click("form.cp button.cp-button--primary")
    expect(visitor.page).to_have_url(re.compile("/admin/messaging/message/[0-9]+/change/"))
