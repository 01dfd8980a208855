"""No secret leaves: not in the database, not in a log, not on a page, not in an answer of the API."""

import re
from collections.abc import Callable, Iterator

import pytest
import requests

from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver, Received
from tests.stack import Stack

CANARY = "canary7f3e9c5b1d"
CREDENTIALS = {
    "bearer": {"token": f"{CANARY}-bearer"},
    "basic": {"username": "shop", "password": f"{CANARY}-basic"},
    "api_key": {"header": "X-Key", "value": f"{CANARY}-key"},
    "hmac": {"secret": f"{CANARY}-hmac"},
    "jwt": {"key": f"{CANARY}-jwt-that-is-long-enough", "algorithm": "HS256", "claims": {"iss": "us"}},
}
PAGES = [
    "/admin/",
    "/admin/endpoints/credential/",
    "/admin/endpoints/endpoint/",
    "/admin/endpoints/auditentry/",
    "/admin/messaging/delivery/",
    "/admin/messaging/message/",
]
LISTS = ["systems", "endpoints", "credentials", "keys", "audit", "messages", "deliveries", "attempts", "dead-letters"]
PLAIN = ["/api/config", "/api/services", "/api/health", "/api/metrics", "/metrics"]


def tell_back(request: Received) -> Answer:
    """Answer as a careless receiver does: with everything it was sent, and a refusal."""
    said = repr(request.headers).encode()
    return Answer(403 if "fail" in request.path else 200, said, {"X-Seen": request.headers.get("authorization", "-")})


@pytest.fixture
def used(make_stack: Callable[..., Stack], http_receiver: HttpReceiver) -> Stack:
    """Return a stack in which every kind of credential was stored, used, tested and told back by its receiver."""
    stack = make_stack(DJANGO_SUPERUSER_PASSWORD="a-long-Password-1", CONTROLPLANE_LOG_LEVEL="debug")
    stack.start("web")
    stack.start("deliver")
    http_receiver.answer(tell_back)
    stack.register("shop")
    for kind, data in CREDENTIALS.items():
        slug = f"to-{kind.replace('_', '-')}"
        made = stack.api("POST", "credentials/", json={"name": slug, "kind": kind, "data": data})
        assert made.status_code == 201, made.text
        stack.register(slug, f"{http_receiver.url}/main", credential=slug)
        failing = {"system": slug, "interface": "fail", "path": "/fail", "credential": slug, "max_attempts": 1}
        address = {"protocol": "http", "host": http_receiver.host, "port": http_receiver.port}
        made = stack.api("POST", "endpoints/", json=failing | address)
        assert made.status_code == 201, made.text
        for target in (slug, f"{slug}/fail"):
            sent = stack.api(
                "POST", "messages/", json={"source_system": "shop", "target_system": target, "payload": {"n": 1}}
            )
            assert sent.status_code == 202, sent.text
    bad = stack.api("POST", "credentials/", json={"name": "bad", "kind": "bearer", "data": {"tokn": f"{CANARY}-bad"}})
    assert bad.status_code == 400
    assert CANARY not in bad.text
    open_left = "SELECT count(*) FROM messaging_delivery WHERE state IN ('pending', 'sending')"
    stack.wait_for(lambda: stack.sql(open_left)[0][0] == 0, 30, "all deliveries ended")
    return stack


def test_the_receivers_did_get_the_secrets(used: Stack, http_receiver: HttpReceiver) -> None:
    """Were they never sent, the searches below would prove nothing."""
    seen = repr([request.headers for request in http_receiver.received])
    assert f"{CANARY}-bearer" in seen
    assert f"{CANARY}-key" in seen


def test_a_secret_is_nowhere_but_at_its_receiver(used: Stack) -> None:
    """Search the whole database, every log, every list and detail of the API, and the pages a superuser sees."""
    found = [place for place, text in _everything(used) if CANARY in text]
    assert not found


def _everything(stack: Stack) -> Iterator[tuple[str, str]]:
    yield from _database(stack)
    for log in stack.var.glob("*.log"):
        yield log.name, log.read_text(errors="replace")
    for name in LISTS:
        rows = stack.api("GET", f"{name}/?page_size=500").json()["results"]
        yield name, repr(rows)
        for row in rows:
            key = row.get("slug") or row.get("message_id" if name == "messages" else "id")
            yield f"{name}/{key}", stack.api("GET", f"{name}/{key}/").text
            if name == "attempts":
                yield f"attempts/{key}/curl", stack.api("GET", f"attempts/{key}/curl/").text
    for path in PLAIN:
        yield path, stack.api("GET", path).text
    yield from _pages(stack)


def _database(stack: Stack) -> Iterator[tuple[str, str]]:
    """Yield every table as text, bytes told as characters so that a stored body is searched too."""
    if stack.database_url.startswith("sqlite"):
        names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    else:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    for (name,) in stack.sql(names):
        for row in stack.sql(f'SELECT * FROM "{name}"'):
            yield (
                name,
                " ".join(
                    bytes(value).decode("latin-1") if isinstance(value, (bytes, memoryview)) else str(value)
                    for value in row
                ),
            )


def _pages(stack: Stack) -> Iterator[tuple[str, str]]:
    """Sign in as a superuser and follow every link of the lists one step down."""
    made = stack.command("createsuperuser", "--noinput", "--username", "root", "--email", "root@example.org")
    assert made.returncode == 0, made.stderr
    session = requests.Session()
    login = session.get(f"{stack.url}/admin/login/", timeout=30)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', login.text)
    assert token is not None
    form = {"csrfmiddlewaretoken": token[1], "username": "root", "password": "a-long-Password-1", "next": "/admin/"}
    assert "Dashboard" in session.post(f"{stack.url}/admin/login/", data=form, timeout=30).text
    for path in PAGES:
        page = session.get(f"{stack.url}{path}", timeout=30)
        assert page.status_code == 200, path
        yield path, page.text
        for link in sorted(set(re.findall(r'href="(/admin/(?:endpoints|messaging)/[^"?]+/change/)"', page.text)))[:20]:
            yield link, session.get(f"{stack.url}{link}", timeout=30).text
