"""Reports as their readers see them: CI servers, other tools, and people who have only the page."""

import io
import json
from base64 import b64encode
from collections import Counter
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import jsonschema_rs
import junitparser
import pytest
import xunitparser

from testing.models import Attempt
from testing.models import Run as Stored
from testing.reports import FORMATS
from testing.reports.json_report import HERE
from testing.services import results
from testing.services.results import MOST_BYTES
from tests.endpoints.conftest import Answer as Answered
from tests.endpoints.conftest import Caller
from tests.servers.http import Answer, HttpReceiver, Received
from tests.servers.ports import free_port
from tests.testing.conftest import Outcome, register
from tests.testing.memory import MIB, growth
from tests.testing.test_runs import CLEANUP, Run, ask, case, suite

# The schema that the format's authors publish, with its licence beside it.
CTRF = jsonschema_rs.Draft7Validator(
    json.loads((Path(__file__).parent / "ctrf" / "schema.json").read_text()), validate_formats=True
)
# Elements that fetch or run something, or send something away.
ACTIVE = {
    "script",
    "link",
    "img",
    "iframe",
    "object",
    "embed",
    "form",
    "base",
    "audio",
    "video",
    "source",
    "foreignobject",
}
HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>'\"`{{ 7*7 }}{% now 'Y' %}&lt;"
FLIPPED = "invoice\u202egnp.exe\u0000\u001b[31m"


class Page(HTMLParser):
    """What a browser would make of a report: its elements, what they would do, and the text a person reads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.acts: list[tuple[str, str | None]] = []
        self.text, self.policy = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.acts += [
            (name, value) for name, value in attrs if name.startswith("on") or name in ("src", "href", "action")
        ]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""

    def handle_data(self, data: str) -> None:
        self.text += f"{data} " if self.lasttag != "style" else ""


@pytest.fixture
def mixed(run: Run, orders: HttpReceiver) -> Outcome:
    """Run a suite with a case of every kind of end."""
    tries: Counter[str] = Counter()

    def at_second_try(request: Received) -> int:
        tries[request.path] += 1
        return 503 if tries[request.path] == 1 else 200

    for region in ("eu", "us"):
        orders.answer_at(f"/flaky/{region}", at_second_try)
    orders.answer_at("/left", 500)
    return run(
        suite(
            case("good", ask()),
            case("bad", ask(more=CLEANUP % "ok"), ask(201)),
            case("broken", "{http: {system: api, body: x, json: 1}, assert: [{status: {eq: 200}}]}"),
            case("behind", ask(), more=", needs: [bad]"),
            case("flaky", ask(path='"/flaky/${{ matrix.region }}"'), more=", retry: {max: 1, every: 10ms}"),
            case("dirty", ask(more=CLEANUP % "left")),
            top="matrix: {region: [eu, us]}",
        )
    )


def test_junit_says_the_same_to_two_readers(mixed: Outcome) -> None:
    """Both count what there is, and find the reason where they look for it."""
    tree = junitparser.JUnitXml.fromstring(mixed.junit.encode())
    cases, totals = xunitparser.parse(io.StringIO(mixed.junit))

    assert (tree.tests, tree.failures, tree.errors, tree.skipped) == (12, 2, 2, 2)
    assert (totals.testsRun, *map(len, (totals.failures, totals.errors, totals.skipped))) == (12, 2, 2, 2)
    first = {found.name: found.result for found_suite in tree for found in found_suite}
    second = {found.methodname: found for found in cases}
    assert first.keys() == second.keys() == {f"{name} [region={region}]" for name in NAMES for region in ("eu", "us")}
    assert first["bad [region=eu]"][0].message == second["bad [region=eu]"].message
    assert "expected 201, got 200" in second["bad [region=eu]"].message
    assert second["behind [region=us]"].message == "needs 'bad', which failed"
    assert {name for name, found in second.items() if found.success} == {
        f"{name} [region={region}]" for name in ("good", "flaky", "dirty") for region in ("eu", "us")
    }


NAMES = ("good", "bad", "broken", "behind", "flaky", "dirty")


def test_ctrf_keeps_to_its_published_schema(mixed: Outcome) -> None:
    """What could not be judged is no pass in a format that has no word for it; ours stands beside."""
    document = json.loads(mixed.ctrf)
    assert [error.message for error in CTRF.iter_errors(document)] == []

    summary, tests = document["results"]["summary"], document["results"]["tests"]
    assert {name: summary[name] for name in ("tests", "passed", "failed", "skipped", "pending", "other")} == {
        "tests": 12,
        "passed": 6,
        "failed": 4,
        "skipped": 2,
        "pending": 0,
        "other": 0,
    }
    found = {test["name"].split(" ")[0]: test for test in tests}
    assert {name: test["rawStatus"] for name, test in found.items()} == dict(
        zip(NAMES, ("passed", "failed", "errored", "blocked", "passed", "passed"), strict=True)
    )
    assert (found["flaky"]["flaky"], found["flaky"]["retries"]) == (True, 1)
    assert "got 503" in found["flaky"]["retryAttempts"][0]["message"]
    assert found["bad"]["trace"].startswith("step 2 (http")  # the step that failed, not the cleanup behind it
    assert document["results"]["tests"][0]["parameters"] == {"region": "eu"}


def test_the_page_says_the_verdict_first_and_why(mixed: Outcome) -> None:
    """Somebody who has never seen the product reads what was expected, what came, and where."""
    text = " ".join(Page(mixed.html).text.split())

    said = [
        "Failed",
        "Of 12 cases, 2 failed, 2 could not be judged, 2 were blocked and 6 passed.",
        "What went wrong first",
    ]
    said += ["bad [region=eu]", "At status", "Expected 201", "Actual 200", "What was asked GET http://", "Every case"]
    places = [text.index(words) for words in said]
    assert places == sorted(places)
    assert "needs 'bad', which failed" in text
    assert "tried again (flaky)" in text
    assert "left behind" in text


def test_the_page_stands_alone_and_does_nothing(mixed: Outcome) -> None:
    """It may be mailed and opened anywhere: it loads nothing, runs nothing, and forbids both."""
    page = Page(mixed.html)

    assert (page.tags & ACTIVE, page.acts) == (set(), [])
    assert "svg" in page.tags
    assert page.policy.startswith("default-src 'none'")
    assert "url(" not in mixed.html
    assert "@import" not in mixed.html


def test_what_other_systems_say_stays_text(run: Run, orders: HttpReceiver) -> None:
    """Markup of theirs is shown as it is; what cannot be seen is written out."""
    body = json.dumps({"name": HOSTILE, "file": FLIPPED}).encode()
    orders.answer(Answer(200, body, {"X-Odd": HOSTILE, "Content-Type": "text/html"}))
    quoted = json.dumps(HOSTILE)
    wrong = f"[{{body.$.name: {{eq: x}}}}, {{text: {{eq: {quoted}}}}}]"
    step = f"{{http: {{system: api, query: {{q: {quoted}}}}}, assert: {wrong}}}"
    done = run(suite(case("one", step), top=f"title: {quoted}\nmatrix: {{markup: [{quoted}]}}"))
    page = Page(done.html)

    assert (done.code, page.tags & ACTIVE, page.acts) == (1, set(), [])
    assert HOSTILE in page.text
    assert done.html.count("<style") == done.html.count("<title>") == 1
    assert not {"\u202e", "\u001b", "\u0000"} & set(done.html)
    assert "\\u202e" in page.text
    assert junitparser.JUnitXml.fromstring(done.junit.encode()).failures == 1
    assert CTRF.is_valid(json.loads(done.ctrf))


def test_a_peer_that_is_away_is_told_as_such(run: Run, admin: Caller) -> None:
    register(admin, "orders", f"http://127.0.0.1:{free_port()}")
    text = " ".join(Page(run(suite(case("one", ask()))).html).text.split())

    assert "The one case failed." in text
    assert "Nothing: there was no answer." in text


def test_a_report_of_many_cases_stays_readable(run: Run, orders: HttpReceiver) -> None:
    """The page holds the first of them and says how many it left out; the other reports hold all."""
    rows = ", ".join(f"{{n: {n}}}" for n in range(2100))
    done = run(
        suite(case("one", "{wait: 0ms}"), top=f"data: {{rows: [{rows}]}}\nexecution: {{mode: parallel, max: 64}}")
    )

    assert "And 100 more; the JSON report holds every one." in done.html
    assert len(done.html) < 2_000_000
    assert len(json.loads(done.ctrf)["results"]["tests"]) == 2100


def test_every_report_is_served_as_what_it_is(run: Run, orders: HttpReceiver, admin: Caller) -> None:
    """A browser that opens the page from here may do no more than one that opens the file."""
    done = run(suite(case("one", ask())))
    served: dict[str, Any] = {
        ending: admin("GET", f"runs/{done.report['id']}/report.{ending}") for ending in ("json", "xml", "html", "ctrf")
    }

    assert {ending: (found.status, found.headers["Content-Type"]) for ending, found in served.items()} == {
        "json": (200, "application/json"),
        "xml": (200, "application/xml"),
        "html": (200, "text/html; charset=utf-8"),
        "ctrf": (200, "application/json"),
    }
    assert served["html"].headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert served["html"].body.decode() == done.html
    assert served["ctrf"].body.decode() == done.ctrf
    assert admin("GET", f"runs/{done.report['id']}/report.pdf").status == 404


def test_no_text_of_a_run_takes_the_place_of_its_cases(run: Run, orders: HttpReceiver) -> None:
    """What is written piece by piece marks where the list stands; a title may say the same."""
    done = run(suite(case("one", ask()), top=f'title: "{HERE}"'))
    told = json.loads(done.ctrf)["results"]

    assert (done.report["title"], done.verdicts) == (HERE, {"one": "passed"})
    assert (told["summary"]["extra"]["title"], len(told["tests"])) == (HERE, 1)


def test_a_large_report_is_written_case_by_case(run: Run, orders: HttpReceiver, admin: Caller) -> None:
    """It says byte for byte what it would say at once; only HTML, which takes all of it, has a bound."""
    done = run(suite(case("one", ask()), case("two", ask(201))))
    endings = ("json", "xml", "ctrf", "html")

    def served() -> list[Answered]:
        return [admin("GET", f"runs/{done.report['id']}/report.{ending}") for ending in endings]

    large = {"status": 200, "body": "x" * (MOST_BYTES // 2)}
    Attempt.objects.filter(step_run__verdict="failed").update(response=large)
    at_once = served()
    assert [found.status for found in at_once] == [200] * 4
    Attempt.objects.filter(step_run__verdict="passed").update(response=large)
    in_pieces = served()
    assert [found.status for found in in_pieces] == [200] * 4
    whole = json.loads(in_pieces[0].body)
    assert [case["steps"][0]["attempts"][0]["response"] for case in whole["cases"]] == [large] * 2
    Attempt.objects.filter(step_run__verdict="failed").update(response={**large, "more": "y" * MOST_BYTES})
    refused = served()
    assert [found.status for found in refused] == [200, 200, 200, 422]
    assert refused[3].json["code"] == "report_too_large"
    assert "48 MiB" in refused[3].json["detail"]
    assert (refused[1].body, refused[2].body) == (at_once[1].body, at_once[2].body)
    assert len(junitparser.JUnitXml.fromstring(refused[1].body)) == 1


def test_a_large_report_takes_no_more_memory_than_a_part_of_it(run: Run, orders: HttpReceiver, admin: Caller) -> None:
    """Of 120 MiB that were answered, a few cases are held at a time."""
    cases = [case(f"c{number}", ask()) for number in range(240)]
    done = run(suite(*cases))
    Attempt.objects.update(response={"status": 200, "body": "x" * (MIB // 2)})
    row = results.bounded(Stored.objects.get(pk=done.report["id"]), whole=True, in_pieces=True)
    with growth() as grown:
        written = sum(len(part) for part in FORMATS["json"].parts(row))

    assert written > 120 * MIB
    assert grown.bytes < 100 * MIB


SECRET = """p\u00e4ss w/rd+<&>'4"11"""


def test_a_secret_that_comes_back_is_nowhere(run: Run, orders: HttpReceiver, admin: Caller) -> None:
    """Not as it is, not quoted, encoded or escaped, in no report and not on the terminal."""
    made = {"name": "other", "kind": "basic", "data": {"username": "anna", "password": SECRET}}
    assert admin("POST", "credentials/", made).status == 201
    raw = SECRET.encode()
    spellings = [SECRET, quote(SECRET, safe=""), quote_plus(SECRET), b64encode(raw).decode().rstrip("="), raw.hex()]
    spellings += [json.dumps(SECRET)[1:-1], json.dumps(SECRET, ensure_ascii=False)[1:-1], escape(SECRET)]
    orders.answer(Answer(200, "\n".join(spellings).encode(), {"Content-Type": "text/plain"}))
    step = """{http: {system: api, method: POST, body: "${{ secret.other.password }}"}, assert: [{text: {eq: x}}]}"""
    kept = """{http: {system: api}, assert: [{status: {eq: 200}}], capture: {said: text}}"""
    done = run(suite(case("one", step), case("two", kept)))

    assert (done.code, orders.received[0].body) == (1, raw)
    for text in (done.raw, done.junit, done.ctrf, done.html, done.out):
        assert "***" in text
        assert [spelling for spelling in spellings if spelling in text] == []


def test_a_load_is_told_by_what_it_was_held_to(run: Run, orders: HttpReceiver) -> None:
    """The threshold that did not hold comes first; each is shown with its figure, and drawn over time."""
    held = "thresholds: [{metric: latency.response, p: 99, lt: 1ms}, {metric: throughput, value: {gte: 1/s}}]"
    more = f", load: {{model: open, stages: [{{for: 500ms, at: 60/s}}], {held}}}"
    orders.answer_at("/slow", Answer(200, delay_s=0.05))
    done = run(suite(case("busy", ask(path="/slow"), more=more)))
    page = Page(done.html)
    text = " ".join(page.text.split())

    assert (done.code, page.tags & ACTIVE) == (1, set())
    assert text.index("latency.response p99 < 1ms") < text.index("busy under load") < text.index("did not hold")
    assert "throughput value >= 1/s" in text
    assert 'aria-label="Latency over' in done.html
    assert [error.message for error in CTRF.iter_errors(json.loads(done.ctrf))] == []
    assert json.loads(done.ctrf)["results"]["tests"][0]["extra"]["load"]["figures"]["errors"] == 0
