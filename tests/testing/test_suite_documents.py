"""Suites as documents: versions, many at once over REST, and files by commands, all of it or nothing."""

import io
import zipfile
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.core.management import CommandError, call_command

from testing.models import Suite
from tests.endpoints.conftest import Caller
from tests.testing.test_drafts import caller

ONE = "suite: one\ncases:\n  - case: a\n    steps: [{wait: 1ms}]\n"
TWO = '{"suite": "two",\r\n "cases": [{"case": "a", "steps": [{"wait": "1ms"}]}]}\r\n'
BAD = ONE.replace("suite: one", "suite: bad").replace("wait: 1ms", "wait: 1")


def command(name: str, *args: str) -> str:
    out = StringIO()
    call_command(name, *args, stdout=out)
    return out.getvalue()


def refused(name: str, *args: str) -> str:
    err = StringIO()
    with pytest.raises(CommandError) as told:
        call_command(name, *args, stderr=err)
    assert told.value.returncode == 2
    return f"{told.value}\n{err.getvalue()}"


def stored() -> dict[str, Any]:
    return dict(Suite.objects.values_list("slug", "version"))


def test_what_is_exported_is_what_was_applied_byte_for_byte(transactional_db: None, tmp_path: Path) -> None:
    """A folder goes in and comes out the same; again nothing is different; a suite of no file goes only when asked."""
    given = tmp_path / "suites" / "below"
    given.mkdir(parents=True)
    (given / "one.yaml").write_text(ONE)
    (given / "two.json").write_bytes(TWO.encode())
    (given / "notes.txt").write_text("no suite")
    (tmp_path / "suites" / ".venv").mkdir()
    (tmp_path / "suites" / ".venv" / "three.yaml").write_text("no: suite")
    assert "one: would be created, version 1" in command("apply", str(tmp_path / "suites"), "--dry-run")
    assert stored() == {}
    assert command("apply", str(tmp_path / "suites")).splitlines() == [
        "one: created, version 1",
        "two: created, version 1",
    ]
    told = orjson.loads(command("apply", str(tmp_path / "suites"), "--json"))
    assert [row["outcome"] for row in told["results"]] == ["unchanged", "unchanged"]

    command("export", "suite", "--to", str(tmp_path / "out"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "one.yaml": ONE.encode(),
        "two.json": TWO.encode(),
    }
    assert command("export", "suite", "two") == TWO
    assert "deleted" in command("apply", str(given / "one.yaml"), "--prune", "--dry-run")
    assert command("apply", str(given / "one.yaml"), "--prune").splitlines()[-1] == "two: deleted"
    assert stored() == {"one": 1}


def test_a_fault_in_one_file_stores_none_and_names_all_places(transactional_db: None, tmp_path: Path) -> None:
    for name, text in (("1.yaml", ONE), ("2.yaml", BAD), ("3.yaml", "a: ["), ("4.yaml", ONE)):
        (tmp_path / name).write_text(text)
    (tmp_path / "5.yaml").write_bytes(b"suite: \xff\n")
    told = refused("apply", str(tmp_path))
    assert "5.yaml (line 1, column 8): not valid UTF-8" in told
    assert "2.yaml: cases.0.steps.0.wait (line 4, column 20): must be a duration" in told
    assert "3.yaml (line " in told
    assert "suite 'one' is in" in told
    assert stored() == {}
    assert "there is no file or folder" in refused("apply", str(tmp_path / "none"))
    assert "over the limit of 1 MiB" in refused("apply", str(_large(tmp_path)))
    assert "there is no suite 'none'" in refused("export", "suite", "none")
    assert "cannot be printed as one" in refused("export", "suite")
    assert "there is no schema of 'suit'" in refused("export", "schema", "suit")


def _large(folder: Path) -> Path:
    path = folder / "large.yaml"
    path.write_text("# " + "x" * 2_000_000)
    return path


@pytest.mark.parametrize(
    ("assertion", "status", "said"),
    [
        ("{body.$.at: {null: true}}", 200, ""),
        ("{body.$.at: {not: {null: false}}}", 200, ""),
        ("{body.$.at: {~: true}}", 422, "a key must be a text"),
        ("{body.$.flags: {contains: true}}", 200, ""),
        ("{body.$.flags: {contains: ''}}", 422, "it always holds"),
        ("{body.$.flags: {schema: true}}", 422, "it always holds"),
        ("{'body.$[?@.total == 1e400]': {empty: true}}", 422, "a number that cannot be read"),
        ("{'body.$[1e2]': {exists: true}}", 422, "a number that cannot be read"),
    ],
)
def test_an_assertion_is_taken_as_it_is_named_or_refused(admin: Caller, assertion: str, status: int, said: str) -> None:
    """What the reference lists can be written so; what cannot be read is the author's fault, not ours."""
    steps = f"[{{http: {{system: api}}, assert: [{assertion}]}}]"
    text = f"suite: a\nsystems: {{api: orders}}\ncases:\n  - {{case: c, steps: {steps}}}\n"
    answer = admin("POST", "suites/check/", {"text": text})

    assert (answer.status, said in answer.body.decode()) == (status, True), answer.body


def test_documents_come_and_go_over_rest(admin: Caller) -> None:
    """All are stored or none; each version is kept with who saved it, and told apart from any other."""
    both = {"documents": [{"name": "one.yaml", "text": ONE}, {"text": TWO}]}
    assert admin("POST", "suites/import/", both | {"dry_run": True}).json["results"][1] == {
        "name": "documents.1",
        "suite": "two",
        "outcome": "created",
        "version": 1,
    }
    assert stored() == {}
    assert admin("POST", "suites/import/", both).status == 200
    changed = ONE.replace("1ms", "2ms")
    wrong = admin("POST", "suites/import/", {"documents": [{"name": "a", "text": changed}, {"name": "b", "text": BAD}]})
    assert (wrong.status, wrong.json["code"], wrong.json["errors"][0]["line"]) == (422, "bad_suite", "4")
    assert wrong.json["errors"][0]["field"] == "b: cases.0.steps.0.wait"
    assert stored() == {"one": 1, "two": 1}
    assert (
        admin("POST", "suites/import/", {"documents": [{"text": changed}]}).json["results"][0]["outcome"] == "changed"
    )

    versions = admin("GET", "suites/one/versions/").json["results"]
    assert [row["number"] for row in versions] == [2, 1]
    assert admin("GET", "suites/one/versions/1/").json["text"] == ONE
    lines = admin("GET", "suites/one/versions/2/diff/").json["lines"]
    assert [line for line in lines if line[0] in "+-"] == ["-    steps: [{wait: 1ms}]", "+    steps: [{wait: 2ms}]"]
    assert admin("GET", "suites/one/versions/1/diff/?against=2").json["lines"][-1] == "+    steps: [{wait: 1ms}]"
    assert admin("GET", "suites/one/versions/1/diff/").json["before"] == 0
    assert admin("GET", "suites/one/versions/3/").status == 404
    assert admin("GET", "suites/one/versions/1/diff/?against=x").status == 400
    found = zipfile.ZipFile(io.BytesIO(admin("GET", "suites/export/").body))
    assert {name: found.read(name).decode() for name in found.namelist()} == {"one.yaml": changed, "two.json": TWO}

    for body in ({}, {"documents": []}, {"documents": [{"text": ONE, "x": 1}]}, {"documents": [{"text": 1}], "x": 1}):
        assert admin("POST", "suites/import/", body).status == 400, body
    red = caller("operator", "Red")
    assert red("POST", "suites/import/", {"documents": [{"text": ONE}]}).status == 403
    assert red("GET", "suites/one/versions/").status == 200  # everyone's
    Suite.objects.filter(slug="one").update(owner=_team("Blue"))
    assert red("GET", "suites/one/versions/").status == 404
    assert red("GET", "suites/one/versions/2/diff/").status == 404


def _team(name: str) -> Any:
    from django.contrib.auth.models import Group

    return Group.objects.get_or_create(name=name)[0]


def test_one_case_runs_with_what_it_needs(run: Any) -> None:
    """The others are not part of the run, and how many there must be is no question then."""
    text = "suite: s\ngate: {min_cases: 3}\ncases:\n"
    for name, needs in (("a", ""), ("b", "needs: [a], "), ("c", "needs: [b], "), ("d", "")):
        text += f"  - {{case: {name}, {needs}steps: [{{wait: 1ms}}]}}\n"
    done = run(text, "--case", "b")
    assert (done.code, done.verdicts, done.report["only"]) == (0, {"a": "passed", "b": "passed"}, ["b"])
    assert "unknown case 'e'" in run(text, "--case", "e").out
