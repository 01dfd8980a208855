"""The pages of suites: who may write what, faults beside their lines, versions side by side, files in and out."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from endpoints.models import System
from messaging.models import Delivery, Message, State
from testing.models import Run, Suite
from tests.admin.conftest import MARKUP
from tests.admin.test_roles import ROLES, TEAMS

Signed = Callable[..., Client]
TEXT = """\
suite: orders
title: Orders, end to end
systems: {api: erp}
cases:
  - case: first
    steps: [{http: {system: api}, assert: [{status: {lt: 500}}]}]
  - case: second
    needs: [first]
    steps: [{wait: 1ms}]
  - case: third
    steps: [{wait: 1ms}]
"""
BAD = TEXT.replace("lt: 500", "ltt: 500")
PAGES = [
    ("/admin/suites/", "viewer"),
    ("/admin/suites/orders/", "viewer"),
    ("/admin/suites/orders/edit/", "viewer"),
    ("/admin/suites/orders/versions/", "viewer"),
    ("/admin/suites/orders/document/", "viewer"),
    ("/admin/suites/export/", "viewer"),
    ("/admin/suites/new/", "viewer"),
    ("/admin/suites/new/?system=erp", "operator"),
    ("/admin/suites/draft/", "operator"),
    ("/admin/suites/import/", "editor"),
]


@pytest.fixture
def suite(world: Any, sign_in: Signed) -> Suite:
    """Return a suite that an editor without teams wrote on the page."""
    answer = sign_in("superuser").post("/admin/suites/new/", {"action": "save", "text": TEXT})
    assert (answer.status_code, answer["Location"]) == (302, "/admin/suites/orders/")
    return Suite.objects.get()


@pytest.mark.parametrize("role", ROLES)
def test_a_page_of_suites_opens_for_its_role_and_those_above_only(role: str, suite: Suite, sign_in: Signed) -> None:
    client = sign_in(role, *TEAMS)
    found = {path: client.get(path).status_code for path, _ in PAGES}
    posts = {
        "save": client.post("/admin/suites/orders/edit/", {"action": "save", "text": TEXT}).status_code,
        "run": client.post("/admin/suites/orders/run/", {}).status_code,
        "delete": client.post("/admin/suites/orders/delete/", {}).status_code,
    }

    assert found == {path: 200 if ROLES.index(role) >= ROLES.index(least) else 403 for path, least in PAGES}
    least = {"save": "editor", "run": "operator", "delete": "editor"}
    assert posts == {name: 302 if ROLES.index(role) >= ROLES.index(least[name]) else 403 for name in posts}


def test_another_teams_suite_is_not_there(suite: Suite, sign_in: Signed) -> None:
    """A row of another team is 404 on every page of it, and in no list or file."""
    sales = sign_in("admin", "Sales")
    Suite.objects.update(owner=System.objects.exclude(owner__name="Sales").exclude(owner=None).first().owner)
    for path, _ in PAGES:
        if "/orders/" in path:
            assert sales.get(path).status_code == 404, path
    assert "/admin/suites/orders/" not in sales.get("/admin/suites/").content.decode()
    assert zipfile.ZipFile(io.BytesIO(sales.get("/admin/suites/export/").content)).namelist() == []


def test_a_fault_is_told_with_its_line_and_the_text_is_kept(suite: Suite, sign_in: Signed) -> None:
    """Checked apart or refused when saved: the place is named, nothing is stored, and what was typed is still there."""
    client = sign_in("editor", *TEAMS)
    told = client.post("/admin/suites/check/", {"text": BAD}).content.decode()
    assert 'data-line="6"' in told
    assert "did you mean &#x27;lt&#x27;?" in told
    saved = client.post("/admin/suites/orders/edit/", {"action": "save", "text": BAD.replace("\n", "\r\n")})
    assert (saved.status_code, Suite.objects.get().version) == (422, 1)
    assert "ltt: 500" in saved.content.decode()
    assert 'data-cases="first second third"' in client.post("/admin/suites/check/", {"text": TEXT}).content.decode()
    other = client.post("/admin/suites/orders/edit/", {"action": "save", "text": TEXT.replace("orders", "others", 1)})
    assert (other.status_code, "is suite &#x27;others&#x27;" in other.content.decode()) == (422, True)
    taken = client.post("/admin/suites/new/", {"action": "save", "text": TEXT})
    assert "name one of your teams" in taken.content.decode()
    taken = client.post("/admin/suites/new/", {"action": "save", "text": TEXT, "owner": "Sales"})
    assert (taken.status_code, "already" in taken.content.decode()) == (422, True)
    named = client.post("/admin/suites/new/", {"action": "save", "text": TEXT.replace("orders", "import", 1)})
    assert (named.status_code, Suite.objects.count()) == (422, 1)


def test_versions_are_kept_told_apart_and_opened_again(suite: Suite, sign_in: Signed) -> None:
    """The same text with a browser's line ends is no version; what changed is shown line by line."""
    client = sign_in("superuser")
    client.post("/admin/suites/orders/edit/", {"action": "save", "text": TEXT.replace("\n", "\r\n")})
    assert Suite.objects.get().version == 1
    client.post("/admin/suites/orders/edit/", {"action": "save", "text": TEXT.replace("500", "400")})
    page = client.get("/admin/suites/orders/versions/").content.decode()
    assert "<ins>+     steps: [{http: {system: api}, assert: [{status: {lt: 400}}]}]</ins>" in page
    assert "<del>-     steps: [{http: {system: api}, assert: [{status: {lt: 500}}]}]</del>" in page
    assert "lt: 500" in client.get("/admin/suites/orders/edit/?version=1").content.decode()
    assert "lt: 400" in client.get("/admin/suites/orders/edit/").content.decode()
    assert client.get("/admin/suites/orders/versions/?to=9").status_code == 302
    assert client.get("/admin/suites/orders/edit/?version=9").status_code == 404


def test_one_case_runs_alone_with_what_it_needs(suite: Suite, sign_in: Signed) -> None:
    """What is stored runs as the suite's; what was changed runs as a text of its own, and is not stored."""
    client = sign_in("editor", *TEAMS)
    client.post("/admin/suites/orders/run/", {"case": "second"})
    client.post("/admin/suites/orders/edit/", {"action": "run", "text": TEXT, "case": "third"})
    client.post("/admin/suites/orders/edit/", {"action": "run", "text": TEXT.replace("500", "400"), "case": ""})
    found = [(run.only, run.document.number, run.suite_id) for run in Run.objects.order_by("id")]

    assert found == [(["second"], 1, suite.pk), (["third"], 1, suite.pk), ([], None, None)]
    wrong = client.post("/admin/suites/orders/edit/", {"action": "run", "text": TEXT, "case": "fourth"})
    assert (wrong.status_code, Run.objects.count()) == (422, 3)


def test_an_operator_runs_what_is_stored_and_nothing_else(suite: Suite, sign_in: Signed) -> None:
    """A text of one's own reads secrets and asks whatever it names: that takes the role that may store it."""
    client = sign_in("operator", *TEAMS)
    other = TEXT.replace("{wait: 1ms}", "{http: {system: api, json: '${{ secret.erp-key.token }}'}, assert: none}")
    refused = client.post("/admin/suites/orders/edit/", {"action": "run", "text": other})
    assert (refused.status_code, Run.objects.count()) == (422, 0)
    assert "takes the role &#x27;editor&#x27;" in refused.content.decode()
    assert client.post("/admin/suites/orders/edit/", {"action": "run", "text": TEXT}).status_code == 302


@pytest.mark.parametrize("name", ["${{ secret.erp-key.token }}.a.example", "${{ vars.token }}.a.example"])
def test_a_secret_is_in_no_name_that_is_resolved(name: str, suite: Suite, sign_in: Signed) -> None:
    """Name servers on the way would read it; nor by a variable."""
    text = TEXT.replace("cases:", 'vars: {token: "${{ secret.erp-key.token }}"}\ncases:', 1)
    text = text.replace("{wait: 1ms}", f'{{dns: "{name}", assert: none}}')
    told = sign_in("editor", *TEAMS).post("/admin/suites/check/", {"text": text}).content.decode()

    assert 'data-line="' in told


def test_a_message_and_a_dead_letter_make_a_test(world: Any, sign_in: Signed) -> None:
    """The button of each leads to the editor with a suite that the checker takes."""
    client = sign_in("editor", *TEAMS)
    dead = Delivery.objects.filter(state=State.DEAD).select_related("message__source").first()
    page = client.get(f"/admin/messaging/message/{dead.message_id}/change/").content.decode()
    assert f"/admin/suites/new/?delivery={dead.pk}" in page
    assert (
        "Make a test"
        not in sign_in("viewer", *TEAMS).get(f"/admin/messaging/message/{dead.message_id}/change/").content.decode()
    )
    for query in (
        f"delivery={dead.pk}",
        f"message={dead.message.message_id}&source={dead.message.source.slug}",
    ):
        answer = client.get(f"/admin/suites/new/?{query}").content.decode()
        assert "no faults" in answer
        assert "status: {eq: delivered}" in answer
    assert client.get("/admin/suites/new/?message=nobody").status_code == 302
    made = client.post("/admin/suites/draft/", {"curl": "curl http://nowhere.example.com/"})
    assert "no system has an endpoint at" in made.content.decode()


def test_files_are_taken_together_or_not_at_all(suite: Suite, sign_in: Signed) -> None:
    """A fault in one is told with its file and line, and nothing of the others is stored."""
    client = sign_in("superuser")

    def give(*texts: str, **more: str) -> str:
        files = [SimpleUploadedFile(f"{index}.yaml", text.encode()) for index, text in enumerate(texts)]
        return client.post("/admin/suites/import/", {"files": files, **more}).content.decode()

    new = TEXT.replace("suite: orders", "suite: others")
    assert "1.yaml: cases.0.steps.0.assert.0.status (line 6, column" in give(new, BAD)
    assert "is in 0.yaml already" in give(new, new)
    assert Suite.objects.count() == 1
    assert "What would be done" in give(new, dry_run="on")
    assert Suite.objects.count() == 1
    told = give(new, TEXT.replace("500", "400"))
    assert ("created, version 1" in told, "changed, version 2" in told) == (True, True)
    found = zipfile.ZipFile(io.BytesIO(client.get("/admin/suites/export/").content))
    assert {name: found.read(name).decode() for name in found.namelist()} == {
        "orders.yaml": TEXT.replace("500", "400"),
        "others.yaml": new,
    }


def test_markup_in_a_suite_stays_text(world: Any, sign_in: Signed) -> None:
    client = sign_in("superuser")
    text = TEXT.replace("Orders, end to end", f"'{MARKUP}'").replace("third", "last") + f"# {MARKUP}\n</textarea>\n"
    assert (
        client.post(
            "/admin/suites/new/", {"action": "save", "text": text.replace("</textarea>", "# </textarea>")}
        ).status_code
        == 302
    )
    Message.objects.update(event_type=MARKUP, payload=b'{"a": "</textarea>"}', content_type="application/json")
    dead = Delivery.objects.filter(state=State.DEAD).first()
    for path in [path for path, _ in PAGES if "export" not in path and "document" not in path] + [
        f"/admin/suites/new/?delivery={dead.pk}"
    ]:
        page = client.get(path).content.decode()
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path
        assert page.count("</textarea>") == page.count("<textarea"), path
