"""The first login, in a real browser: its button is seen, and a spent link says what else lets one in."""

from collections.abc import Callable

from playwright.sync_api import expect, sync_playwright

from tests.browser.conftest import FLAGS
from tests.stack import Stack

# The colour that is seen behind the words of the button, and that of the words.
COLOURS = "button => [getComputedStyle(button).backgroundColor, getComputedStyle(button).color]"


def test_the_button_of_a_login_link_is_seen_and_a_spent_link_says_so(
    make_stack: Callable[..., Stack], chromium: str
) -> None:
    """In light and dark, on a desk and on a phone; whoever comes again is told of the password."""
    stack = make_stack()
    stack.start("up", "--roles", "web", "worker")
    link = next(word for word in stack.log("up").split() if "/admin/login/link/" in word)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for scheme in ("light", "dark"):
            for width in (1280, 390):
                page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
                page.goto(link)
                behind, words = page.locator("form button[type=submit]").evaluate(COLOURS)
                assert behind not in ("rgba(0, 0, 0, 0)", words), (scheme, width)

        page.click("form button[type=submit]")
        page.wait_for_url(f"{stack.url}/admin/")
        page = browser.new_page()
        page.goto(link)

        expect(page.locator("[role=status]")).to_contain_text("This login link was used, or is too old")
        expect(page.locator("[role=status]")).to_contain_text("admin-password")
        browser.close()
