"""A headless Chromium that reports what a page does wrong: errors, refused scripts, requests to elsewhere."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.servers.absence import not_installed
from tests.servers.fixtures import http_receiver  # noqa: F401
from tests.stack import Databases, Stack, run

PASSWORD = "a long enough password"
PATIENCE_MS = 60_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@dataclass
class Visitor:
    """A signed-in person with a browser; `faults` holds what no page may do."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)


@pytest.fixture
def database_url(sqlite_databases: Databases) -> Iterator[str]:
    """Yield a fresh database: a page looks the same on either, and the night is played on both."""
    with sqlite_databases.fresh() as url:
        yield url


@pytest.fixture
def chromium() -> str:
    """Return the browser's path, or skip by name; with CI set a missing browser is a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return found or not_installed("Chromium", "chromium")


@pytest.fixture
def visitor(stack: Stack, chromium: str) -> Iterator[Visitor]:
    """Yield an admin, signed in through the form."""
    env = {**stack.env, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    made = run(["createsuperuser", "--noinput", "--username", "anna", "--email", "anna@example.com"], env)
    made.check_returncode()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        visitor = Visitor(context.new_page(), stack.url)
        _listen(visitor)
        visitor.open("/admin/")
        visitor.page.fill("#id_username", "anna")
        visitor.page.fill("#id_password", PASSWORD)
        visitor.page.click("#login-form button[type=submit]")
        visitor.page.wait_for_url(stack.url + "/admin/")
        yield visitor
        browser.close()


def _listen(visitor: Visitor) -> None:
    own = (visitor.url, visitor.url.replace("http", "ws", 1), "data:", "about:")
    page, faults = visitor.page, visitor.faults
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: None if request.url.startswith(own) else faults.append(f"asked {request.url}"))
