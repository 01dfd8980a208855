"""Results of other tools, brought as files: kept like our own runs, or refused quickly and by name."""

import json
import os
import subprocess
import sys
import time
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command

from endpoints import services
from endpoints.access.principal import COMMAND
from endpoints.errors import ControlPlaneError, TooLarge
from testing import outside
from testing.outside.junit import CHUNK
from testing.services import imports
from tests.endpoints.conftest import Answer, Caller
from tests.servers.http import HttpReceiver
from tests.testing.conftest import Outcome
from tests.testing.test_reports import mixed
from tests.testing.test_runs import Run, ask, case

__all__ = ["mixed"]

XML = "application/xml"
# As Maven's Surefire writes tries before the last.
SUREFIRE = """\
<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="shop.OrdersTest" time="1,002.5" timestamp="2026-11-20T10:00:00" tests="4">
  <testcase name="pays" classname="shop.OrdersTest" time="0.5">
    <flakyFailure message="too late" type="AssertionError">at Orders.java:12</flakyFailure>
  </testcase>
  <testcase name="ships" classname="shop.OrdersTest" time="0.25">
    <failure message="expected 3" type="AssertionError">at Orders.java:40</failure>
    <rerunFailure message="expected 3 again" type="AssertionError">at Orders.java:40</rerunFailure>
    <system-out>warehouse is closed</system-out>
  </testcase>
  <testcase name="refunds" classname="shop.Refunds"><error type="NullPointerException">boom
    at Refunds.java:7</error></testcase>
  <testcase name="later" classname="shop.OrdersTest"><skipped/></testcase>
</testsuite>
"""
PYTEST = """\
import pytest
def test_good(): pass
@pytest.mark.parametrize("n", [1, 2])
def test_bad(n): assert n == 1, "<&>"
@pytest.fixture
def broken(): raise RuntimeError("no broker")
def test_broken(broken): pass
def test_skipped(): pytest.skip("no server")
"""


def brought(caller: Caller, body: str | bytes, kind: str = XML, query: str = "") -> Answer:
    raw = body.encode() if isinstance(body, str) else body
    return caller("POST", f"runs/import/{query}", raw=raw, content_type=kind)


def report(caller: Caller, run: Any) -> dict[str, Any]:
    return dict(caller("GET", f"runs/{run['id']}/report.json").json)


def test_what_surefire_found_is_a_run_like_any_other(admin: Caller) -> None:
    """With its verdict, reasons, tries and times; listed, shown, and written in every report."""
    made = brought(admin, SUREFIRE)
    assert (made.status, made.json["suite"], made.json["verdict"]) == (201, "shop-orderstest", "failed"), made.body
    assert made.json["counts"] == {"passed": 1, "failed": 1, "errored": 1, "skipped": 1}
    assert (made.json["flaky"], made.json["imported_as"], made.json["total"]) == (True, "junit", 4)
    assert (made.json["started_at"], made.json["finished_at"]) == (
        "2026-11-20T10:00:00Z",
        "2026-11-20T10:16:42.500000Z",
    )

    cases = {found["case"]: found for found in report(admin, made.json)["cases"]}
    assert {name: (found["verdict"], found["flaky"], found["reason"]) for name, found in cases.items()} == {
        "pays": ("passed", True, ""),
        "ships": ("failed", False, "expected 3"),
        "shop.Refunds.refunds": ("errored", False, "boom"),
        "later": ("skipped", False, ""),
    }
    tries = cases["ships"]["steps"][0]["attempts"]
    assert [found["error"] for found in tries] == ["expected 3 again", "expected 3"]
    assert tries[-1]["response"]["text"] == "at Orders.java:40\nwarehouse is closed"
    assert [run["id"] for run in admin("GET", "runs/?suite=shop-orderstest&verdict=failed").json["results"]] == [
        made.json["id"]
    ]
    page = admin("GET", f"runs/{made.json['id']}/report.html").body.decode()
    assert "warehouse is closed" in page
    assert "Of 4 cases, 1 failed, 1 could not be judged, 1 was skipped and 1 passed." in page


def test_what_pytest_writes_is_read(admin: Caller, tmp_path: Path) -> None:
    """The real tool, as it is installed here."""
    (tmp_path / "test_it.py").write_text(PYTEST)
    ran = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:django",
        "--junit-xml=r.xml",
        "-c",
        os.devnull,
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "DJANGO"))}
    subprocess.run(
        [*ran, "--rootdir=.", "test_it.py"], cwd=tmp_path, env=clean, capture_output=True, check=False, timeout=120
    )
    made = brought(admin, (tmp_path / "r.xml").read_bytes(), query="?suite=checkout")

    assert (made.status, made.json["suite"], made.json["title"]) == (201, "checkout", "pytest tests"), made.body
    found = {found["case"]: (found["verdict"], found["reason"]) for found in report(admin, made.json)["cases"]}
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        "test_it.test_good": "passed",
        "test_it.test_bad[1]": "passed",
        "test_it.test_bad[2]": "failed",
        "test_it.test_broken": "errored",
        "test_it.test_skipped": "skipped",
    }
    assert "<&>" in found["test_it.test_bad[2]"][1]
    assert "no broker" in found["test_it.test_broken"][1]


@pytest.mark.parametrize(("form", "kind"), [("junit", XML), ("ctrf", "application/json")])
def test_our_own_reports_come_back_as_they_went(mixed: Outcome, admin: Caller, form: str, kind: str) -> None:
    """Verdicts, flags and reasons outlive the way through a format that has fewer words."""
    made = brought(admin, getattr(mixed, form), kind, "?suite=again")

    ours = {f"{found['case']} [region={found['matrix']['region']}]": found for found in mixed.report["cases"]}
    theirs = {found["case"]: found for found in report(admin, made.json)["cases"]}
    told = ("verdict", "reason") + (("flaky",) if form == "ctrf" else ())  # JUnit has no word for it
    for name, found in ours.items():
        assert [theirs[name][field] for field in told] == [found[field] for field in told]
    assert (made.json["verdict"], made.json["counts"]) == (mixed.verdict, mixed.report["counts"])


def test_the_same_report_twice_is_one_run(admin: Caller) -> None:
    """A pipeline that tries again does no harm; as another suite's it is another run."""
    first, second, other = (brought(admin, SUREFIRE, query=query) for query in ("", "", "?suite=other"))

    assert (first.status, second.status, other.status) == (201, 200, 201)
    assert first.json["id"] == second.json["id"] != other.json["id"]
    assert len(admin("GET", "runs/").json["results"]) == 2
    assert [entry["action"] for entry in admin("GET", "audit/?object_type=run").json["results"]] == ["import", "import"]


@pytest.mark.parametrize(
    "body",
    [
        '<testsuites name="ci"/>',
        '<testsuite name="ci"><testcase name="a"><skipped/></testcase></testsuite>',
        '{"results": {"tests": []}}',
        '{"results": {"tests": [{"name": "a", "status": "other"}]}}',
    ],
)
def test_nothing_judged_is_nothing_passed(admin: Caller, body: str) -> None:
    assert brought(admin, body).json["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('<testsuite name="s" failures="7"><testcase name="a"/></testsuite>', 'failures="7"'),
        (
            '<testsuites errors="1"><testsuite name="s" errors="1"><testcase name="a"/></testsuite></testsuites>',
            "errors=",
        ),
        ('<testsuites failures="2"><testsuite name="s"><testcase name="a"/></testsuite></testsuites>', 'failures="2"'),
    ],
)
def test_what_a_report_only_counts_as_wrong_is_not_passed(admin: Caller, body: str, why: str) -> None:
    made = brought(admin, body)
    cases = {row["case"]: row for row in admin("GET", f"runs/{made.json['id']}/cases/").json["results"]}
    [name] = cases.keys() - {"a"}

    assert (made.json["verdict"], cases["a"]["verdict"], cases[name]["verdict"]) == ("errored", "passed", "errored")
    assert why in cases[name]["reason"]


def test_what_a_case_shows_is_not_counted_again(admin: Caller) -> None:
    shown = '<testsuite name="s" failures="1" errors="0"><testcase name="a"><failure/></testcase></testsuite>'
    flaky = '<testsuite name="t" failures="1"><testcase name="b"><flakyFailure/></testcase></testsuite>'
    uncounted = '<testsuite name="u" failures="unknown" errors="0"><testcase name="c"/></testsuite>'

    assert [brought(admin, body).json["total"] for body in (shown, flaky, uncounted)] == [1, 1, 1]


def test_a_failure_around_another_case_is_not_lost(admin: Caller) -> None:
    """A case that holds another is a case as well: what failed in it is no pass."""
    made = brought(
        admin,
        "<testsuite><testcase name='outer'><failure message='no'/><testcase name='inner'/></testcase></testsuite>",
    )
    cases = admin("GET", f"runs/{made.json['id']}/cases/").json["results"]

    assert made.json["verdict"] == "failed"
    assert {row["case"]: row["verdict"] for row in cases} == {"inner": "passed", "outer": "failed"}


def test_another_suite_may_wait_for_what_ci_found(admin: Caller, run: Run, orders: HttpReceiver) -> None:
    """`needs` looks at imported runs as at ours."""
    behind = "suite: behind\nsystems: {api: orders}\nneeds: [{suite: unit, if: passed}]\ncases:\n  - "
    text = f"{behind}{case('one', ask())}\n"
    one = '<testsuite><testcase name="a">%s</testcase></testsuite>'
    assert brought(admin, one % "<failure/>", query="?suite=unit").json["verdict"] == "failed"
    assert run(text).verdict == "blocked"
    assert brought(admin, one % "", query="?suite=unit").json["verdict"] == "passed"
    assert run(text).verdict == "passed"


def test_what_came_from_elsewhere_runs_again_elsewhere(admin: Caller) -> None:
    made = brought(admin, SUREFIRE).json
    again = admin("POST", f"runs/{made['id']}/rerun/", {})

    assert (again.status, again.json["code"]) == (409, "imported")


def test_secrets_that_are_kept_here_are_masked(admin: Caller, orders: HttpReceiver) -> None:
    """Other tools print tokens; ours knows some of them by value."""
    said = 'name="s3cret-token-of-orders"'
    failure = '<failure message="s3cret-token-of-orders">czNjcmV0LXRva2VuLW9mLW9yZGVycw==</failure>'
    body = f"<testsuite {said}><testcase {said}>{failure}</testcase></testsuite>"
    made = brought(admin, body, query="?suite=leaky")
    kept = b"".join(
        admin("GET", f"runs/{made.json['id']}/report.{end}").body for end in ("json", "xml", "html", "ctrf")
    )

    assert made.status == 201
    assert b"s3cret-token-of-orders" not in kept + made.body
    assert b"czNjcmV0" not in kept
    assert b"***" in kept


def test_roles_teams_and_names_hold(admin: Caller) -> None:
    """Who may run suites may import; into a team of theirs; under a name that can be one."""
    red, blue = (Group.objects.create(name=name) for name in ("red", "blue"))
    theirs = {
        team: Caller(services.create_api_key(team.name, "operator", by=COMMAND, team=team)[1]) for team in (red, blue)
    }
    viewer = Caller(services.create_api_key("v", "viewer", by=COMMAND)[1])
    made = brought(theirs[red], SUREFIRE).json

    assert brought(viewer, SUREFIRE).status == 403
    assert theirs[red]("GET", f"runs/{made['id']}/").status == 200
    assert theirs[blue]("GET", f"runs/{made['id']}/").status == 404
    assert brought(theirs[blue], SUREFIRE).json["id"] != made["id"]  # the same bytes are not the same run for another
    assert brought(theirs[blue], SUREFIRE, query="?owner=red").status == 403
    assert brought(admin, SUREFIRE, query="?owner=green").status == 400
    assert brought(admin, SUREFIRE, query="?suite=No%20Slug").status == 400
    assert brought(admin, SUREFIRE, query="?suit=x").status == 400


TRACE = "at shop.Orders.pay(Orders.java:12)\n" * 380
LARGE = {
    "junit": (
        XML,
        '<testsuite name="large">',
        '<testcase name="c%d"><failure message="m">%s</failure></testcase>',
        "</testsuite>",
    ),
    "ctrf": (
        "application/json",
        '{"results": {"tool": {"name": "large"}, "tests": [{"name": "first", "status": "passed"}',
        ',{"name": "c%d", "status": "failed", "message": "m", "trace": "%s"}',
        "]}}",
    ),
}


@pytest.mark.parametrize("form", LARGE)
def test_a_report_of_20_mb_is_taken(admin: Caller, form: str) -> None:
    """As a pipeline writes it that keeps long traces; once more it is the same run."""
    kind, begin, each, end = LARGE[form]
    text = TRACE.replace("\n", "\\n" if form == "ctrf" else "\n")
    body = (begin + "".join(each % (number, text) for number in range(1_500)) + end).encode()
    assert len(body) > 20_000_000
    made, again = brought(admin, body, kind), brought(admin, body, kind)

    assert (made.status, made.json["counts"]["failed"], made.json["suite"]) == (201, 1_500, "large"), made.body
    assert (again.status, again.json["id"]) == (200, made.json["id"])


class Endless(RawIOBase):
    """A report without an end."""

    given = 0

    def read(self, size: int = -1) -> bytes:
        self.given += size
        return b"<testsuite>".ljust(size) if self.given == size else b" " * size


def test_a_report_over_the_cap_is_refused_with_the_cap(admin: Caller) -> None:
    """It is read no further than that, and nothing of it is kept."""
    endless = Endless()
    with pytest.raises(TooLarge, match="larger than 64 MiB"):
        imports.import_results(endless, by=COMMAND)  # type: ignore[arg-type]
    assert endless.given <= imports.MAX_BYTES + 1024**2
    large = brought(admin, b'{"results": {' + b" " * 33 * 1024**2, "application/json")
    assert (large.status, large.json["code"]) == (413, "too_large")
    assert "CTRF report is larger than 32 MiB" in large.json["detail"]
    assert admin("GET", "runs/").json["results"] == []


BOMB = "".join(f'<!ENTITY b{n} "{f"&b{n - 1};" * 10 if n else "lol"}">' for n in range(10))
ENTITY = "declares a document type or an entity"
HOSTILE = {
    "bomb": (f'<!DOCTYPE a [{BOMB}]><testsuite name="&b9;"/>', 400, ENTITY),
    "quadratic": (f'<!DOCTYPE a [<!ENTITY a "{"x" * 9999}">]><testsuite name="{"&a;" * 9999}"/>', 400, ENTITY),
    "file": ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuite name="&x;"/>', 400, ENTITY),
    "outside dtd": ('<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><testsuite/>', 400, ENTITY),
    "unknown entity": ('<testsuite name="&x;"/>', 400, "not valid XML"),
    "10 MB": ("<" + "a" * 10_000_000, 422, "longer than 256 KiB"),
    "many parts": ('{"results": ' + "[]," * 600_000, 422, "more than 20000 cases"),
    "deep": ("<testsuite>" * 300_000, 422, "nested deeper than 32"),
    "many elements": ("<testsuite>" + "<a/>" * 1_000_000 + "</testsuite>", 422, "more than 20000 cases"),
    "many cases": ("<testsuite>" + "<testcase/>" * 300_000, 422, "more than 20000 cases"),
    "one long tag": ("<testsuite " + " ".join(f"a{n}='1'" for n in range(300_000)) + "/>", 422, "longer than 256 KiB"),
    "torn": ("<testsuite><testcase name='a'>", 400, "not valid XML"),
    "nul": ("<testsuite name='\0'/>", 400, "line 1, column"),
    "encoding": ("<?xml version='1.0' encoding='nonsense'?><testsuite/>", 400, "cannot be decoded"),
    "other xml": ("<html/>", 422, "begins with <html>"),
    "nothing": ("", 400, "neither XML"),
    "list": ("[]", 400, "neither XML"),
    "deep json": ('{"results": ' + "[" * 100_000, 400, "not JSON that we read"),
    "twice": ('{"results": {}, "results": {}}', 400, "not JSON that we read"),
    "infinite": ('{"results": {"tests": [{"name": "a", "status": "passed", "duration": 1e999}]}}', 400, "not JSON"),
    "no tests": ('{"results": {}}', 422, "results.tests: must be a list"),
    "mistyped": ('{"results": {"tests": [5]}}', 422, "results.tests.0: must be an object"),
    "unnamed": ('{"results": {"tests": [{"status": "passed"}]}}', 422, "results.tests.0.name: must be a text"),
    "status": ('{"results": {"tests": [{"name": "a", "status": "green"}]}}', 422, "'green' is none of passed, failed"),
    "many tries": (
        '{"results": {"tests": [{"name": "a", "status": "passed", "retryAttempts": ['
        + '{"status": "failed"},' * 78_000
        + '{"status": "failed"}]}]}}',
        422,
        "more than 20000 tries",
    ),
    "tries of many": (
        '{"results": {"tests": ['
        + ",".join(
            ['{"name": "a", "status": "passed", "retryAttempts": [{"status": "failed"}%s]}' % (",{}" * 99)] * 300
        )
        + "]}}",
        422,
        "more than 20000 tries",
    ),
    "many flaky tries": (
        "<testsuite><testcase>" + "<flakyError/>" * 78_000 + "</testcase></testsuite>",
        422,
        "more than 20000 tries",
    ),
    "many tests": ('{"results": {"tests": [' + "1," * 1_000_000 + "1]}}", 422, "more than 20000 cases"),
}


@pytest.mark.parametrize("before", [0, CHUNK - 1], ids=["at once", "between two parts"])
def test_what_a_test_printed_may_hold_any_number_of_tags(admin: Caller, before: int) -> None:
    """Only elements count against the bound of elements, not what is quoted, wherever a part of the file ends."""
    printed = "<a></a>" * 200_000
    begun = "<testsuite><testcase name='a'><system-out>".ljust(before)
    body = f"{begun}<![CDATA[{printed}]]></system-out></testcase></testsuite>"
    assert brought(admin, body.encode()).status == 201


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_report_is_refused_within_200_ms(admin: Caller, name: str) -> None:
    """By name, before it costs anything; nothing of it is kept."""
    text, status, said = HOSTILE[name]
    body = text.encode()
    started = time.thread_time()
    with pytest.raises(ControlPlaneError) as refused:
        outside.read(BytesIO(body))
    took = time.thread_time() - started
    answer = brought(admin, body)

    assert took < 0.2, refused.value
    assert (answer.status, said in answer.json["detail"]) == (status, True), answer.body
    assert admin("GET", "runs/").json["results"] == []


@pytest.mark.parametrize(
    "body",
    [
        f'<testsuite><testcase name="{"n" * 9000}" time="-5"><failure message="{"m" * 9000}">{"t" * 99_999}</failure>'
        "</testcase></testsuite>",
        '<testsuite timestamp="yesterday" time="nan"><testcase time="1e400" line="x"/></testsuite>',
        '<testsuite timestamp="9998-12-31T23:59:59-23:59"><testcase timestamp="9999-12-31T23:59-01:00"/></testsuite>',
        '<testsuite timestamp="0001-01-01T00:00:00+14:00"><testcase timestamp="1971-01-01T00:00+23:59"/></testsuite>',
        '<s:testsuite xmlns:s="urn:x"><s:testcase name="&#x202e;"/></s:testsuite>',
        "<testsuites><testsuite><testsuite><testcase name='a'><testcase name='b'/></testcase>"
        "</testsuite></testsuite></testsuites>",
        '{"results": {"tool": {"name": "x"}, "summary": {"start": 1e18, "stop": -1}, "tests": [{"name": "a",'
        ' "status": "failed", "duration": -1, "start": 1e300, "suite": 5, "line": -5, "stdout": 5, "rawStatus": [],'
        ' "retryAttempts": []}]}}',
        '{"results": {"tests": [{"name": "a", "status": "failed", "rawStatus": "passed", "suite": "b"}]}}',
        '{"results": {"tool": {"name": ["x"]}, "tests": [{"name": "a", "status": "passed"}]}}',
        '{"results": {"environment": {"reportName": {"x": 1}}, "tests": [{"name": "a", "status": "passed"}]}}',
    ],
)
def test_what_is_odd_is_kept_as_well_as_it_can_be(admin: Caller, body: str) -> None:
    """Tools differ; long, missing and impossible values are no reason to lose results, nor to break a page."""
    made = brought(admin, body)

    assert made.status == 201, made.body
    for path in ("", "report.json", "report.xml", "report.html", "report.ctrf"):
        assert admin("GET", f"runs/{made.json['id']}/{path}").status == 200, path
    assert admin("GET", "runs/").status == 200


def test_the_command_says_what_became_of_each(tmp_path: Path, admin: Caller, capsys: Any) -> None:
    good, bad = tmp_path / "good.xml", tmp_path / "bad.xml"
    good.write_text(SUREFIRE)
    bad.write_text("<html/>")
    with pytest.raises(SystemExit) as ended:
        call_command("import_results", str(good), str(bad), "--suite", "nightly")
    said = capsys.readouterr()

    assert ended.value.code == 2
    assert "failed nightly (1 errored, 1 failed, 1 passed, 1 skipped), run " in said.out
    assert "begins with <html>" in said.err
    assert json.loads(admin("GET", "runs/?suite=nightly").body)["results"][0]["title"] == "shop.OrdersTest"
