"""Suites over lines of their own: how a test registers a peer and writes a case of one."""

from collections.abc import Callable
from typing import Any

from tests.endpoints.conftest import Caller
from tests.testing.conftest import Outcome

Run = Callable[..., Outcome]
FIRST_LINE, FIRST_COLUMN = 6, 9  # of the first step of `suite`
TOKEN = "s3cret-token-of-the-hub"


def place(admin: Caller, protocol: str, port: int, *, token: str = "", slug: str = "hub", **endpoint: Any) -> None:
    """Register a system with one endpoint on loopback."""
    body: dict[str, Any] = {"system": slug, "protocol": protocol, "host": "127.0.0.1", "port": port, **endpoint}
    if token:
        made = {"name": f"{slug}-token", "kind": "bearer", "data": {"token": token}}
        assert admin("POST", "credentials/", made).status == 201
        body["credential"] = f"{slug}-token"
    assert admin("POST", "systems/", {"slug": slug, "name": slug}).status == 201
    answer = admin("POST", "endpoints/", body)
    assert answer.status == 201, answer.body


def suite(*steps: str, more: str = "", top: str = "") -> str:
    """Return a suite of one case; each step stands in a line of its own."""
    lines = "".join(f"      - {step}\n" for step in steps)
    return f"suite: lines\nsystems: {{hub: hub}}\ncases:\n  - case: one{more}\n    steps:\n{lines}{top}"


def of_line(kind: str, params: str, *assertions: str, more: str = "") -> str:
    """Return a step; without assertions it asserts none."""
    asserted = ", ".join(f"{{{each}}}" for each in assertions)
    return f"{{{kind}: {{system: hub, {params}}}, assert: {f'[{asserted}]' if asserted else 'none'}{more}}}"
