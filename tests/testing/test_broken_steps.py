"""What breaks costs what it stands in: cleanups, the other cases and the teardown run all the same."""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from endpoints.transports import added
from testing.models import Part
from testing.models import Run as Row
from testing.runner import leases
from testing.runner.execute import Execution
from testing.runner.results import CaseResult
from tests.endpoints.conftest import Caller
from tests.servers.answers import HANG, Answer
from tests.servers.http import HttpReceiver
from tests.testing.conftest import Outcome
from tests.testing.lines import place
from tests.testing.test_runs import CLEANUP, ask, case
from tests.testing.test_runs import suite as plain

Run = Callable[..., Outcome]
TRANSPORT = '''
import asyncio
from endpoints.transports.base import AckLevel, Reply, Transport
from endpoints.transports.http import HttpTransport

class OddTransport(Transport):
    """Breaks its promises: what it raises is no TransportError."""

    async def open(self): pass
    async def send(self, outgoing): raise RuntimeError("sent")
    async def probe(self): raise RuntimeError("nobody thought of this")
    async def aclose(self): raise RuntimeError("cannot be closed")

class DeafTransport(OddTransport):
    """Does not let go: goes on when it is cancelled, and is never closed."""

    async def probe(self):
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            await asyncio.sleep(7)
        return Reply(AckLevel.TRANSPORT, 1.0)

    async def aclose(self): await asyncio.sleep(600)

class FrailTransport(HttpTransport):
    """Asks, but breaks over every third request of a load."""

    asked = 0

    async def ask_planned(self, *args, **more):
        self.asked += 1
        if self.asked % 3 == 0:
            raise RuntimeError("nobody thought of this")
        return await super().ask_planned(*args, **more)
'''


@pytest.fixture
def odd(admin: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with protocols that break, and register systems `odd` and `deaf` that speak two of them."""
    metadata = tmp_path / "site" / "odd_link-1.0.0.dist-info"
    metadata.mkdir(parents=True)
    (tmp_path / "site" / "odd_link.py").write_text(TRANSPORT)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-link\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text(
        "[controlplane.transports]\nodd = odd_link:OddTransport\ndeaf = odd_link:DeafTransport\n"
        "frail = odd_link:FrailTransport\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for known in (added.offered, added.added_class):
        known.cache_clear()
    for name in ("odd", "deaf"):
        place(admin, name, 7, slug=name)
    yield
    for known in (added.offered, added.added_class):
        known.cache_clear()


def suite(*cases: str) -> str:
    top = f"execution: {{mode: parallel, max: 4}}\nteardown: [{ask(path='/teardown')}]\n"
    return f"suite: broken\nsystems: {{api: orders, odd: odd, deaf: deaf}}\n{top}cases:\n" + "".join(
        f"  - {c}\n" for c in cases
    )


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


LOAD = ", load: {stages: [{for: 300ms, at: 40/s}], thresholds: [{metric: errors, rate: {lte: 1}}]}"


def test_a_step_that_breaks_under_load_costs_its_iterations_and_nothing_else(
    run: Run, admin: Caller, odd: None, orders: HttpReceiver
) -> None:
    """Plain or with cleanups: they count as errors of the iteration, the case is errored with the cause."""
    parts = urlsplit(orders.url)
    place(admin, "frail", parts.port or 0, slug="frail")
    get = "{http: {system: frail, path: /frail}, assert: [{status: {eq: 200}}]}"
    text = suite(
        case("plain", get, more=LOAD),
        case("whole", ask(more=CLEANUP % "a"), "{probe: odd, assert: none}", more=LOAD),
        case("good", ask(path="/good", more=CLEANUP % "b")),
    ).replace("deaf: deaf", "deaf: deaf, frail: frail")
    done = run(text)

    assert done.verdicts == {"plain": "errored", "whole": "errored", "good": "passed", "teardown": "passed"}, done.out
    for name, at in (("plain", "http"), ("whole", "probe")):
        found = done.cases[name]
        assert (found["reason"].partition(" in line")[0], found["error_class"]) == (at, "internal")
        assert found["reason"].endswith("internal: RuntimeError")
    figures = done.cases["plain"]["load"]["figures"]
    assert (figures["iterations"], figures["errors_by_class"]) == (12, {"internal": 4})
    paths = asked(orders)
    assert {"DELETE /a", "DELETE /b", "GET /good", "GET /teardown"} <= set(paths)
    assert paths.count("GET /frail") == 8


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


def test_a_step_that_does_not_let_go_is_left_behind(run: Run, odd: None, orders: HttpReceiver) -> None:
    """The case ends a while after its time, is cleaned up, and begins nothing more; nor is its line waited for."""
    started = time.monotonic()
    inner = f"{{group: [{{probe: deaf, assert: none}}, {ask(path='/never')}]}}"
    done = run(suite(case("bad", ask(more=CLEANUP % "a"), inner, ask(path="/never"), more=", timeout: 500ms")))

    assert done.verdicts == {"bad": "errored", "teardown": "passed"}, done.out
    assert "longer than 0.5 s" in done.cases["bad"]["reason"]
    assert asked(orders) == ["DELETE /a", "GET /", "GET /teardown"]
    assert time.monotonic() - started < 100


@pytest.mark.parametrize(
    ("more", "top"), [(", timeout: 1s", ""), ("", "execution: {timeout: 1s}")], ids=["case", "run"]
)
def test_what_ends_a_case_between_two_rounds_ends_no_cleanup(
    run: Run, orders: HttpReceiver, more: str, top: str
) -> None:
    """The cleanup under way and those behind it run to their end, once each, and nothing is said to be dirty."""
    orders.answer_at("/b", Answer(200, delay_s=3.0))
    orders.answer_at("/bad", 503)
    group = f", cleanup: {{group: [{ask(path='/c')}, {ask(path='/d')}]}}"
    steps = (ask(more=CLEANUP % "a"), ask(more=group), ask(more=CLEANUP % "b"), ask(path="/bad"))
    done = run(plain(case("one", *steps, more=f", retry: {{max: 1, every: 1ms}}{more}"), top=top))

    assert (done.code, done.verdicts, done.cases["one"]["rounds"]) == (2, {"one": "errored"}, 1), done.out
    told = [f"{found.method} {found.path}" for found in orders.received]
    assert told[-4:] == ["DELETE /b", "GET /c", "GET /d", "DELETE /a"]
    assert len(told) == 8
    assert done.report["dirty"] is False
    cleanups = [step["verdict"] for step in done.cases["one"]["steps"] if step["phase"] == "cleanup"]
    assert cleanups == ["passed"] * 3
