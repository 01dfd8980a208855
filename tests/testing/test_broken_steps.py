"""What breaks costs what it stands in: cleanups, the other cases and the teardown run all the same."""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from endpoints.transports import added
from testing.models import Part
from testing.models import Run as Row
from testing.runner import leases
from testing.runner.execute import Execution
from testing.runner.results import CaseResult
from tests.endpoints.conftest import Caller
from tests.servers.answers import HANG
from tests.servers.http import HttpReceiver
from tests.testing.conftest import Outcome
from tests.testing.lines import place
from tests.testing.test_runs import CLEANUP, ask, case

Run = Callable[..., Outcome]
TRANSPORT = '''
from endpoints.transports.base import Transport

class OddTransport(Transport):
    """Breaks its promises: what it raises is no TransportError."""

    async def open(self): pass
    async def send(self, outgoing): raise RuntimeError("sent")
    async def probe(self): raise RuntimeError("nobody thought of this")
    async def aclose(self): raise RuntimeError("cannot be closed")
'''


@pytest.fixture
def odd(admin: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with a protocol that breaks, and register a system `odd` that speaks it."""
    metadata = tmp_path / "site" / "odd_link-1.0.0.dist-info"
    metadata.mkdir(parents=True)
    (tmp_path / "site" / "odd_link.py").write_text(TRANSPORT)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-link\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text("[controlplane.transports]\nodd = odd_link:OddTransport\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for known in (added.offered, added.added_class):
        known.cache_clear()
    place(admin, "odd", 7, slug="odd")
    yield
    for known in (added.offered, added.added_class):
        known.cache_clear()


def suite(*cases: str) -> str:
    top = f"execution: {{mode: parallel, max: 4}}\nteardown: [{ask(path='/teardown')}]\n"
    return f"suite: broken\nsystems: {{api: orders, odd: odd}}\n{top}cases:\n" + "".join(f"  - {c}\n" for c in cases)


def asked(orders: HttpReceiver) -> list[str]:
    return sorted(f"{found.method} {found.path}" for found in orders.received)


def test_a_step_that_breaks_is_errored_and_costs_nothing_else(run: Run, odd: None, orders: HttpReceiver) -> None:
    """Its case is cleaned up, the other cases pass, the teardown runs; that its line cannot be closed is no matter."""
    done = run(
        suite(
            case("bad", ask(more=CLEANUP % "a"), "{probe: odd, assert: none}", ask(path="/never")),
            case("good", "{wait: 300ms}", ask(path="/good", more=CLEANUP % "b")),
        )
    )

    assert done.verdicts == {"bad": "errored", "good": "passed", "teardown": "passed"}, done.out
    assert (done.code, done.cases["bad"]["error_class"]) == (2, "internal")
    assert "probe" in done.cases["bad"]["reason"]
    assert "internal: RuntimeError" in done.cases["bad"]["reason"]
    assert asked(orders) == ["DELETE /a", "DELETE /b", "GET /", "GET /good", "GET /teardown"]
    assert done.report["dirty"] is False


def test_a_run_that_breaks_off_cleans_up_all_cases_and_tears_down(
    admin: Caller, odd: None, orders: HttpReceiver
) -> None:
    """Whoever watches the run broke: the case that runs beside it is ended, cleaned up, and waited for."""
    orders.answer_at("/slow", HANG)
    orders.answer_at("/first", lambda _: 200 if any(found.path == "/slow" for found in orders.received) else 503)
    text = suite(
        case("bad", ask(path="/first", more=", poll: {within: 30s, every: 20ms}")),
        case("beside", ask(path="/beside", more=CLEANUP % "b"), ask(path="/slow")),
    )
    assert admin("POST", "suites/", {"text": text}).status == 201
    key = admin("POST", "suites/broken/run/", {}).json["id"]
    token = uuid.uuid4()
    taken = leases.take(uuid.UUID(key), token)
    assert taken is not None

    def listener(result: CaseResult) -> None:
        if result.part == Part.CASE:
            raise BrokenPipeError

    asyncio.run(Execution(taken, token, listener).work())

    row = Row.objects.get(pk=key)
    assert (row.verdict, row.reason) == ("errored", "internal: BrokenPipeError")
    assert set(asked(orders)) == {"DELETE /b", "GET /beside", "GET /first", "GET /slow", "GET /teardown"}
