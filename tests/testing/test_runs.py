"""The rules of verdicts: what passes, what fails, what cannot be judged, and that nothing passes by itself."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from xml.etree.ElementTree import fromstring

import pytest

from tests.endpoints.conftest import Caller
from tests.servers.answers import HANG
from tests.servers.certificates import CertificateAuthority
from tests.servers.http import Answer, HttpReceiver
from tests.servers.ports import free_port
from tests.testing.conftest import Outcome, answer, register
from tests.testing.memory import MIB, growth

Run = Callable[..., Outcome]


def suite(*cases: str, top: str = "") -> str:
    return f"suite: orders-suite\nsystems: {{api: orders}}\n{top}\ncases:\n" + "".join(
        f"  - {case}\n" for case in cases
    )


def ask(status: int = 200, path: str = "/", more: str = "") -> str:
    return f"{{http: {{system: api, path: {path}}}, assert: [{{status: {{eq: {status}}}}}]{more}}}"


def case(name: str, *steps: str, more: str = "") -> str:
    return f"{{case: {name}, steps: [{', '.join(steps)}]{more}}}"


def test_what_holds_passes_with_the_endpoints_address_and_credential(run: Run, orders: HttpReceiver) -> None:
    """The step goes where a delivery would go, as whom it would go; every attempt is stored."""
    orders.answer(answer(body={"id": 7}))
    done = run(suite(case("one", ask(more=", capture: {id: body.$.id}"), ask(path='"/${{ captures.id }}?x=1"'))))

    assert (done.code, done.verdict, done.verdicts) == (0, "passed", {"one": "passed"})
    assert [found.path for found in orders.received] == ["/", "/7?x=1"]
    assert orders.received[0].headers["authorization"] == "Bearer s3cret-token-of-orders"
    attempt = done.cases["one"]["steps"][0]["attempts"][0]
    assert (attempt["response"]["status"], attempt["checks"][0]["ok"]) == (200, True)


def test_no_auth_leaves_the_credential_out(run: Run, orders: HttpReceiver) -> None:
    done = run(suite(case("one", "{http: {system: api, auth: none}, assert: [{status: {eq: 200}}]}")))

    assert done.code == 0
    assert "authorization" not in orders.received[0].headers
    assert orders.received[0].path == "/base"


def test_a_wrong_answer_fails_and_says_expected_actual_and_where(run: Run, orders: HttpReceiver) -> None:
    orders.answer(answer(body={"items": [{"n": 1}, {"n": 2}]}))
    done = run(suite(case("one", "{http: {system: api}, assert: [{body.$.items: {each: {n: {eq: 1}}}}]}")))
    assert done.code == 2  # `n` is no operator: refused before anything ran

    done = run(suite(case("one", "{http: {system: api}, assert: [{'body.$.items[*].n': {each: {eq: 1}}}]}")))
    check = done.cases["one"]["steps"][0]["attempts"][0]["checks"][0]
    assert (done.code, done.verdicts["one"]) == (1, "failed")
    assert (check["where"], check["expected"], check["actual"]) == ("body.$.items[*].n[1]", 1, 2)


def test_a_peer_that_is_away_fails_whatever_is_asserted(run: Run, admin: Caller) -> None:
    """Latency alone would hold of nothing at all; only an assertion about the error may be content with it."""
    register(admin, "orders", f"http://127.0.0.1:{free_port()}")
    step = "{http: {system: api}, assert: [{%s}]}"
    done = run(suite(case("lucky", step % "latency: {lt: 10s}"), case("meant", step % "error.class: {eq: connect}")))

    assert done.verdicts == {"lucky": "failed", "meant": "passed"}
    assert "no answer: connect" in done.cases["lucky"]["reason"]


def test_what_asserts_nothing_still_needs_an_answer(run: Run, admin: Caller) -> None:
    register(admin, "orders", f"http://127.0.0.1:{free_port()}")
    done = run(suite(case("one", "{http: {system: api}, assert: none}")))

    assert (done.code, done.verdict) == (2, "errored")


def test_polling_is_no_flakiness(run: Run, orders: HttpReceiver) -> None:
    """Waiting until it holds is what was asked for; so few attempts are all stored."""
    orders.answer(503, 503, 200)
    done = run(suite(case("one", ask(more=", poll: {within: 5s, every: 10ms}"))))

    assert (done.code, done.report["flaky"]) == (0, False)
    assert [found["verdict"] for found in done.cases["one"]["steps"][0]["attempts"]] == ["failed", "failed", "passed"]


def test_a_poll_keeps_its_first_and_last_answers_and_counts_the_rest(
    run: Run, admin: Caller, orders: HttpReceiver
) -> None:
    """However often and much it was answered: what is in between would fill memory and disk."""
    key = "another-s3cret"
    made = {"name": "partner", "kind": "bearer", "data": {"token": key}}
    assert admin("POST", "credentials/", made).status == 201
    at = 16 * 1024 - 4  # what is masked is cut, and what is cut was masked
    orders.answer(*[Answer(503, b"x" * at + key.encode() + b"x" * (MIB - at - len(key)))] * 99, 200)
    step = "{http: {system: api, headers: {x-key: '${{ secret.partner.token }}'}}, assert: [{status: {eq: 200}}], %s}"
    with growth() as grown:
        done = run(suite(case("one", step % "poll: {within: 2m, every: 10ms}")))
    found = done.cases["one"]["steps"][0]
    tries = found["attempts"]

    print(f"100 answers of 1 MiB: memory grew by {grown.bytes / MIB:.0f} MiB")
    assert (done.code, found["tries"], len(orders.received)) == (0, 100, 100)
    assert [tried["number"] for tried in tries] == [1, 2, 3, 4, 5, *range(86, 101)]
    assert [tried["verdict"] for tried in tries] == ["failed"] * 19 + ["passed"]
    assert {(len(tried["response"]["body"]), tried["response"]["body"][-5:]) for tried in tries[:-1]} == {
        (16 * 1024, "x***x")
    }
    assert tries[7]["checks"][0]["actual"] == 503
    assert key not in done.raw
    assert "100 tries" in done.html
    assert grown.bytes < 50 * MIB


def test_a_poll_that_gives_up_says_how_often_it_asked(run: Run, orders: HttpReceiver) -> None:
    orders.answer(503)
    done = run(suite(case("one", ask(more=", poll: {within: 1s, every: 10ms}"))))
    step = done.cases["one"]["steps"][0]

    assert f"asked {len(orders.received)} times" in done.cases["one"]["reason"]
    assert step["tries"] == len(orders.received) == step["attempts"][-1]["number"]


def test_a_poll_ends_in_time(run: Run, orders: HttpReceiver) -> None:
    orders.answer(503)
    done = run(suite(case("one", ask(more=", poll: {within: 200ms, every: 20ms}"))))

    assert (done.code, done.cases["one"]["took_ms"] < 2000) == (1, True)
    assert "within 0.2 s" in done.cases["one"]["reason"]


@pytest.mark.parametrize(
    ("gate", "code", "verdict"), [("pass", 0, "passed"), ("warn", 0, "passed"), ("fail", 1, "failed")]
)
def test_a_retry_that_rescues_marks_the_case_flaky(
    run: Run, orders: HttpReceiver, gate: str, code: int, verdict: str
) -> None:
    """The gate says what that means for the run."""
    orders.answer(200, 503, 200)
    one = case("one", ask(), ask(), more=", retry: {max: 2, every: 10ms, if: [server_error]}")
    done = run(suite(one, top=f"gate: {{flaky: {gate}}}"))

    assert (done.code, done.verdict, done.report["flaky"]) == (code, verdict, True)
    assert (done.cases["one"]["flaky"], done.cases["one"]["rounds"]) == (True, 2)
    assert [step["round"] for step in done.cases["one"]["steps"]] == [1, 1, 2, 2]


def test_a_retry_covers_only_its_reasons(run: Run, orders: HttpReceiver) -> None:
    orders.answer(404, 200)
    done = run(suite(case("one", ask(), more=", retry: {max: 2, if: [server_error, timeout]}")))

    assert (done.code, done.cases["one"]["rounds"]) == (1, 1)


def test_blocked_names_its_cause(run: Run, orders: HttpReceiver) -> None:
    """A case whose need did not pass is not run, and does not hide the one that failed."""
    orders.answer_at("/bad", 500)
    done = run(
        suite(
            case("third", ask(), more=", needs: [second]"),
            case("second", ask(), more=", needs: [first]"),
            case("first", ask(path="/bad")),
            case("apart", ask()),
        )
    )

    assert (done.code, done.verdict) == (1, "failed")
    assert done.verdicts == {"first": "failed", "second": "blocked", "third": "blocked", "apart": "passed"}
    assert (done.cases["second"]["blocked_by"], done.cases["third"]["blocked_by"]) == ("first", "second")
    assert len(orders.received) == 2


CLEANUP = ', cleanup: {http: {system: api, method: DELETE, path: "/%s"}}'


def test_cleanups_run_in_reverse_order_even_after_failure(run: Run, orders: HttpReceiver) -> None:
    orders.answer_at("/bad", 500)
    done = run(suite(case("one", ask(more=CLEANUP % "a"), ask(path="/bad", more=CLEANUP % "b"), ask(path="/never"))))

    assert [(found.method, found.path) for found in orders.received] == [
        *(("GET", "/"), ("GET", "/bad")),
        *(("DELETE", "/b"), ("DELETE", "/a")),
    ]
    assert (done.code, done.report["dirty"]) == (1, False)


def test_a_failed_cleanup_only_adds_dirty(run: Run, orders: HttpReceiver) -> None:
    """It turns nothing red, and never anything green."""
    orders.answer_at("/a", 500)
    orders.answer_at("/bad", 500)
    done = run(suite(case("good", ask(more=CLEANUP % "a")), case("bad", ask(path="/bad", more=CLEANUP % "ok"))))

    assert done.verdicts == {"good": "passed", "bad": "failed"}
    assert (done.cases["good"]["dirty"], done.cases["bad"]["dirty"], done.report["dirty"]) == (True, False, True)


def test_a_cleanup_that_cannot_know_what_to_clean_is_skipped(run: Run, orders: HttpReceiver) -> None:
    """A refusal leaves nothing behind."""
    orders.answer(422)
    done = run(suite(case("one", ask(more=", capture: {id: body.$.id}" + CLEANUP % "${{ captures.id }}"))))

    cleanup = done.cases["one"]["steps"][-1]
    assert (cleanup["phase"], cleanup["verdict"], done.report["dirty"]) == ("cleanup", "skipped", False)


def test_a_failed_setup_blocks_all_and_the_teardown_runs(run: Run, orders: HttpReceiver) -> None:
    orders.answer_at("/setup", 500)
    top = f"setup: [{ask(path='/setup')}]\nteardown: [{ask(path='/teardown')}]"
    done = run(suite(case("one", ask()), top=top))

    assert done.verdicts == {"setup": "failed", "one": "blocked", "teardown": "passed"}
    assert [found.path for found in orders.received] == ["/setup", "/teardown"]
    assert done.code == 1


def test_what_setup_captures_all_cases_read(run: Run, orders: HttpReceiver) -> None:
    orders.answer(answer(body={"id": 9}))
    top = f"setup: [{ask(more=', capture: {id: body.$.id}')}]"
    done = run(suite(case("one", ask(path='"/${{ captures.id }}"')), top=top))

    assert done.code == 0
    assert orders.received[-1].path == "/9"


def test_each_combination_and_row_is_a_case_run(run: Run, orders: HttpReceiver) -> None:
    """References keep their type where they stand alone, and needs stay within a combination."""
    top = "matrix: {region: [eu, us]}\ndata: {rows: [{n: 1}, {n: 2}]}"
    post = '{http: {system: api, json: {r: "${{ matrix.region }}", n: "${{ data.n }}"}}, assert: [{status: {eq: 200}}]}'
    done = run(suite(case("one", post), case("two", post, more=", needs: [one]"), top=top))

    assert (done.code, done.report["counts"]) == (0, {"passed": 8})
    bodies = [found.body for found in orders.received]
    assert bodies[:2] == [b'{"r":"eu","n":1}'] * 2
    assert sorted(set(bodies)) == [b'{"r":"%s","n":%d}' % (r, n) for r in (b"eu", b"us") for n in (1, 2)]


def test_a_case_that_takes_too_long_is_errored_and_cleaned_up(run: Run, orders: HttpReceiver) -> None:
    orders.answer_at("/slow", HANG)
    started = time.monotonic()
    done = run(suite(case("one", ask(more=CLEANUP % "a"), ask(path="/slow"), more=", timeout: 300ms")))

    assert (done.code, done.verdicts) == (2, {"one": "errored"})
    assert "longer than 0.3 s" in done.cases["one"]["reason"]
    assert done.cases["one"]["steps"][1]["reason"] == "cut off: the 0.3 s of its case were over"
    assert orders.received[-1].method == "DELETE"
    assert time.monotonic() - started < 10


def test_a_step_that_takes_too_long_fails_for_its_timeout(run: Run, orders: HttpReceiver) -> None:
    orders.answer_at("/slow", HANG)
    done = run(suite(case("one", ask(path="/slow", more=", timeout: 200ms"))))

    assert (done.code, done.verdicts) == (1, {"one": "failed"})
    assert done.cases["one"]["error_class"] == "timeout"


def test_a_run_that_takes_too_long_ends(run: Run, orders: HttpReceiver) -> None:
    orders.answer_at("/slow", HANG)
    done = run(suite(case("one", ask(path="/slow")), case("two", ask()), top="execution: {timeout: 300ms}"))

    assert (done.code, done.verdict) == (2, "errored")
    assert done.verdicts == {"one": "errored", "two": "errored"}


def test_fail_fast_begins_nothing_more(run: Run, orders: HttpReceiver) -> None:
    done = run(suite(case("one", ask(201)), case("two", ask()), top="execution: {fail_fast: true}"))

    assert done.verdicts == {"one": "failed", "two": "skipped"}


def test_parallel_cases_run_side_by_side(run: Run, orders: HttpReceiver) -> None:
    """Ten of 300 ms take nothing like three seconds."""
    cases = [case(f"c{n}", "{wait: 300ms}", ask()) for n in range(10)]
    done = run(suite(*cases, top="execution: {mode: parallel, max: 10}"))

    assert done.code == 0
    assert done.report["took_s"] < 2


def test_too_few_cases_are_inconclusive(run: Run, orders: HttpReceiver) -> None:
    """A run that looked at too little has shown nothing."""
    done = run(suite(case("one", ask()), top="gate: {min_cases: 2}"))

    assert (done.code, done.verdict) == (2, "inconclusive")


def test_groups_fail_with_their_steps(run: Run, orders: HttpReceiver) -> None:
    group = f"{{group: {{at_once: true, steps: [{ask()}, {ask(201)}]}}}}"
    done = run(suite(case("one", group, ask())))

    assert done.verdicts == {"one": "failed"}
    assert [step["path"] for step in done.cases["one"]["steps"]] == ["1", "1.1", "1.2"]


def test_production_is_written_to_with_leave_only(run: Run, admin: Caller, http_receiver: HttpReceiver) -> None:
    register(admin, "orders", http_receiver.url, environment="production")
    text = suite(case("one", "{http: {system: api, method: POST}, assert: [{status: {eq: 200}}]}"), case("two", ask()))
    done = run(text)

    assert done.verdicts == {"one": "errored", "two": "passed"}
    assert "--allow-production" in done.cases["one"]["reason"]
    assert [found.method for found in http_receiver.received] == ["GET"]
    assert run(text, "--allow-production").code == 0


def test_a_message_that_names_no_target_needs_leave(run: Run, admin: Caller, orders: HttpReceiver) -> None:
    """Where it goes is not known beforehand: once there is a production system, it could be that one."""
    text = suite(case("one", "{message: {from: api}, assert: [{status: {eq: unrouted}}]}"))
    assert run(text).code == 0
    assert admin("POST", "systems/", {"slug": "shop", "name": "Shop", "environment": "production"}).status == 201
    done = run(text)

    assert done.verdicts == {"one": "errored"}
    assert "does not name what it reaches" in done.cases["one"]["reason"]
    assert len(admin("GET", "messages/").json["results"]) == 1
    assert run(text, "--allow-production").code == 0


def test_a_forbidden_address_is_never_asked(run: Run, admin: Caller) -> None:
    """Steps go through the one egress: that we refuse says nothing of the other side."""
    register(admin, "orders", "http://169.254.169.254:80")
    done = run(suite(case("one", "{http: {system: api}, assert: [{error.class: {exists: true}}]}")))

    assert (done.code, done.verdict, done.cases["one"]["error_class"]) == (2, "errored", "blocked_address")


def test_secrets_are_masked_in_every_report(run: Run, orders: HttpReceiver) -> None:
    """By value, in whatever spelling the other side gives them back."""
    orders.answer(answer(body={"echo": "s3cret-token-of-orders", "id": "czNjcmV0LXRva2VuLW9mLW9yZGVycw=="}))
    step = (
        '{http: {system: api, method: POST, path: "/x?t=${{ secret.orders-token.token }}"}, '
        "assert: [{body.$.echo: {eq: nothing}}], capture: {echo: body.$.echo}}"
    )
    done = run(suite(case("one", step, more=""), case("two", step.replace("{eq: nothing}", "{exists: true}"))))

    assert done.verdicts == {"one": "failed", "two": "passed"}
    assert "s3cret-token-of-orders" in orders.received[0].path
    for kept in (done.raw, done.junit, done.ctrf, done.html, done.out.replace(done.report["title"], "")):
        assert "s3cret-token-of-orders" not in kept
        assert "czNjcmV0" not in kept


@pytest.mark.parametrize("before", [-1, 185, 194], ids=["echoed", "cut", "cut soon"])
def test_a_secret_is_masked_however_it_is_quoted(run: Run, orders: HttpReceiver, admin: Caller, before: int) -> None:
    """As JSON within JSON within our sentence about it, as a URL has it, and where that sentence was cut."""
    secret = "Zq7x\"w'k\\j<&>/Yvvy+Uuqu~Rrtr"
    assert admin("POST", "credentials/", {"name": "odd", "kind": "bearer", "data": {"token": secret}}).status == 201
    inner = json.dumps({"path": f"/x?t={quote(secret, safe='/+&~')}", "t": secret})
    body = json.dumps({"echo": inner}) if before < 0 else "-" * before + secret + "-" * 300
    orders.answer(Answer(body=body.encode()))
    sent = 'http: {system: api, method: POST, path: /x, body: "${{ secret.odd.token }}"}'
    done = run(suite(case("one", f"{{{sent}, assert: [{{text: {{eq: 1}}}}, {{body.$.echo: {{eq: 1}}}}]}}")))

    assert done.verdicts == {"one": "failed"}
    assert orders.received[0].body == secret.encode()
    for kept in (done.raw, done.junit, done.ctrf, done.html, done.out):
        assert [part for part in ("Zq7x", "Yvvy", "Uuqu", "Rrtr") if part in kept] == []
        assert "***" in kept


def test_what_is_replaced_is_checked(run: Run, orders: HttpReceiver, admin: Caller) -> None:
    """Aliases, variables and systems that are not there are named, and nothing runs."""
    text = suite(case("one", ask(path='"/${{ vars.n }}"')), top="vars: {n: 1, f: 1.5}")
    for args, said in (
        (["--system", "apo=orders"], "did you mean 'api'"),
        (["--system", "api=nowhere"], "there is no such system (api: nowhere)"),
        (["--var", "m=1"], "unknown variable 'm'"),
        (["--var", "n=${{ now }}"], "must be a number"),
        (["--var", f"n={2**64}"], "an integer within 64 bits"),
        (["--var", "f=nan"], "must be a finite number"),
        (["--var", "f=1e400"], "must be a finite number"),
        (["--parallel", "0"], "parallel must be 1 to 256"),
    ):
        done = run(text, *args)
        assert (done.code, said in done.out) == (2, True), done.out
    assert orders.received == []
    assert run(text, "--var", "n=5").code == 0
    assert orders.received[0].path == "/5"


def test_junit_counts_what_there_is(run: Run, orders: HttpReceiver) -> None:
    """Failed is a failure, errored an error, blocked and skipped are skipped with their cause."""
    done = run(
        suite(
            case("good", ask()),
            case("bad", ask(201)),
            case("broken", "{http: {system: api, body: x, json: 1}, assert: [{status: {eq: 200}}]}"),
            case("behind", ask(), more=", needs: [bad]"),
        )
    )
    root = fromstring(done.junit)[0]

    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    found = {test.get("name"): [child.tag for child in test] for test in root.iter("testcase")}
    assert found == {"good": [], "bad": ["failure"], "broken": ["error"], "behind": ["skipped"]}
    assert "needs 'bad', which failed" in done.junit


def test_a_refused_document_ends_with_2_and_its_places(run: Run) -> None:
    done = run("suite: a\ncases: [{case: c, steps: [{wiat: 1s}]}]\n")

    assert done.code == 2
    assert "line 2, column" in done.out
    assert "did you mean 'wait'?" in done.out


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('n\n"never closed\n', "cannot read rows.csv"),
        (f"n\n{'x' * 200_000}\n", "cannot read rows.csv"),
        ("n,n\n1,2\n", "names a column twice"),
        ("n\n", "needs 1 to 10000 rows"),
        ("n,m\n1\n", "as many values as names"),
    ],
    ids=["quote", "field", "twice", "none", "short"],
)
def test_a_csv_that_says_something_else_is_refused(
    run: Run, orders: HttpReceiver, tmp_path: Path, rows: str, said: str
) -> None:
    """What a spreadsheet would not have meant is told before anything runs."""
    (tmp_path / "rows.csv").write_text(rows)
    done = run(suite(case("one", ask(path='"/${{ data.n }}"')), top="data: {csv: rows.csv}"))

    assert (done.code, said in done.out) == (2, True), done.out
    assert orders.received == []


def test_a_csv_beside_the_suite_gives_rows(run: Run, orders: HttpReceiver, tmp_path: object) -> None:
    """It is a file's name, never a path."""
    (tmp_path / "rows.csv").write_text("n,name\n1,a\n2,b\n")  # type: ignore[operator]
    done = run(suite(case("one", ask(path='"/${{ data.name }}"')), top="data: {csv: rows.csv}"))

    assert (done.code, done.report["counts"]) == (0, {"passed": 2})
    assert sorted(found.path for found in orders.received) == ["/a", "/b"]


def test_five_hundred_cases_are_stored_in_time(run: Run, orders: HttpReceiver) -> None:
    """With every attempt; the figure is printed."""
    rows = ", ".join(f"{{n: {n}}}" for n in range(500))
    top = f"data: {{rows: [{rows}]}}\nexecution: {{mode: parallel, max: 32}}"
    done = run(suite(case("one", ask(path='"/${{ data.n }}"')), top=top))

    print(f"500 cases of one request: {500 / done.report['took_s']:.0f}/s")
    assert done.report["counts"] == {"passed": 500}
    assert sum(len(found["steps"][0]["attempts"]) for found in done.report["cases"]) == 500
    assert done.report["took_s"] < 10


def test_a_certificate_is_seen_or_refused(
    run: Run, admin: Caller, authority: CertificateAuthority, tls_receiver: HttpReceiver
) -> None:
    """Verified as a delivery verifies it: whoever does not trust its authority gets no connection."""
    parts = {"protocol": "https", "host": "localhost", "port": tls_receiver.port}
    for slug, config in (("orders", {"tls": {"ca": authority.pem}}), ("other", {})):
        assert admin("POST", "systems/", {"slug": slug, "name": slug}).status == 201
        assert admin("POST", "endpoints/", {"system": slug, "config": config, **parts}).status == 201
    held = "{tls.days_left: {gt: 0.5}}, {tls.names: {contains: localhost}}, {tls.version: {starts_with: TLS}}"
    text = suite(
        case("known", f"{{tls: api, assert: [{held}]}}"),
        case("stranger", "{tls: other, assert: [{error.class: {eq: tls}}]}"),
    )
    done = run(text.replace("{api: orders}", "{api: orders, other: other}"))

    assert done.verdicts == {"known": "passed", "stranger": "passed"}, done.raw


def test_a_name_is_resolved_as_deliveries_resolve_it(run: Run, orders: HttpReceiver) -> None:
    held = "{dns: localhost, assert: [{rows: {each: {type: ip}}}]}"
    forbidden = "{dns: 169.254.169.254, assert: [{error.class: {eq: blocked_address}}]}"
    done = run(suite(case("known", held), case("forbidden", forbidden)))

    assert done.verdicts == {"known": "passed", "forbidden": "passed"}, done.raw
