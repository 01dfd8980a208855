"""Who may open and do what on the pages, and whose rows they see."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from endpoints.models import AuditEntry, Endpoint, System
from messaging.models import Delivery, Message, State

TEAMS = ("Commerce", "Finance", "Sales", "Logistics")
ROLES = ("viewer", "operator", "editor", "admin")
Signed = Callable[..., Client]

# Path, and the least role that may open it.
PAGES = [
    ("/admin/", "viewer"),
    ("/admin/messaging/delivery/", "viewer"),
    ("/admin/messaging/message/", "viewer"),
    ("/admin/messaging/message/1/change/", "viewer"),
    ("/admin/messaging/message/1/payload/", "operator"),
    ("/admin/send/", "operator"),
    ("/admin/dead-letters/", "viewer"),
    ("/admin/find/", "viewer"),
    ("/admin/find/?q=1", "viewer"),
    ("/admin/systems/erp/", "viewer"),
    ("/admin/systems/erp/maintenance/", "viewer"),
    ("/admin/systems/erp/retire/", "editor"),
    ("/admin/endpoints/system/", "viewer"),
    ("/admin/endpoints/system/add/", "editor"),
    ("/admin/endpoints/endpoint/", "viewer"),
    ("/admin/endpoints/endpoint/add/", "editor"),
    ("/admin/endpoints/credential/", "viewer"),
    ("/admin/endpoints/credential/add/", "editor"),
    ("/admin/endpoints/apikey/", "admin"),
    ("/admin/endpoints/apikey/add/", "admin"),
    ("/admin/endpoints/signingkey/", "admin"),
    ("/admin/endpoints/signingkey/add/", "admin"),
    ("/admin/runs/", "viewer"),
    ("/admin/suite-health/", "viewer"),
    ("/admin/messaging/listener/", "viewer"),
    ("/admin/messaging/listener/add/", "editor"),
    ("/admin/endpoints/auditentry/", "admin"),
    ("/admin/auth/user/", "admin"),
    ("/admin/auth/group/", "admin"),
]


@pytest.mark.parametrize("role", ROLES)
def test_a_page_opens_for_its_role_and_those_above_only(role: str, world: Any, sign_in: Signed) -> None:
    """403 for a role below, never 500 and never a redirect for one that may."""
    client = sign_in(role, *TEAMS)
    found = {path: client.get(path).status_code for path, _ in PAGES}

    assert found == {path: 200 if ROLES.index(role) >= ROLES.index(least) else 403 for path, least in PAGES}


@pytest.mark.parametrize("path", [path for path, _ in PAGES])
def test_a_stranger_is_sent_to_sign_in(path: str, world: Any) -> None:
    answer = Client().get(path)

    assert (answer.status_code, answer["Location"].split("?")[0]) == (302, "/admin/login/")


@pytest.mark.parametrize(("role", "status", "state"), [("viewer", 403, "pending"), ("operator", 302, "cancelled")])
def test_cancel_takes_an_operator(role: str, status: int, state: str, world: Any, sign_in: Signed) -> None:
    delivery = Delivery.objects.filter(state=State.PENDING).first()
    path = reverse("admin:messaging_delivery_act_one", args=[delivery.pk])

    answer = sign_in(role, *TEAMS).post(path, {"action": "cancel"})

    delivery.refresh_from_db()
    assert (answer.status_code, delivery.state) == (status, state)


@pytest.mark.parametrize(("role", "status", "state"), [("viewer", 403, "active"), ("operator", 302, "paused")])
def test_pause_takes_an_operator_and_is_audited(
    role: str, status: int, state: str, world: Any, sign_in: Signed
) -> None:
    answer = sign_in(role, *TEAMS).post("/admin/systems/erp/switch/", {"action": "pause", "reason": "moving"})

    assert (answer.status_code, System.objects.get(slug="erp").state) == (status, state)
    assert AuditEntry.objects.filter(action="pause", via="admin").count() == (state == "paused")


@pytest.mark.parametrize("action", ["", "retire", "delete", "update"])
def test_a_switch_takes_no_other_action(action: str, world: Any, sign_in: Signed) -> None:
    """A word from the role table that is no switch must not reach the service table."""
    assert sign_in("superuser").post("/admin/systems/erp/switch/", {"action": action}).status_code in (400, 403)


def test_an_editor_changes_a_system_and_the_audit_says_so(world: Any, sign_in: Signed) -> None:
    client, system = sign_in("editor", *TEAMS), System.objects.get(slug="erp")
    path = reverse("admin:endpoints_system_change", args=[system.pk])
    form = client.get(path).context["adminform"].form
    data = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    given = {name: form[name].value() if name not in ("name",) else "New name" for name in data}

    answer = client.post(path, {name: value for name, value in given.items() if value not in (None, False)})

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert System.objects.get(slug="erp").name == "New name"
    assert AuditEntry.objects.get(action="update").changes["name"] == ["ERP", "New name"]


def test_rows_of_another_team_do_not_exist(world: Any, sign_in: Signed) -> None:
    """A team sees what its systems sent or receive, and 404 or nothing for the rest."""
    System.objects.update(accepts_from=[])
    client = sign_in("operator", "Sales")
    hidden = Message.objects.filter(source__slug="shop").first()
    endpoint = Endpoint.objects.get(system__slug="billing")

    assert client.get(f"/admin/messaging/message/{hidden.pk}/change/").status_code == 404
    assert client.get(f"/admin/messaging/message/{hidden.pk}/payload/").status_code == 404
    assert client.get("/admin/systems/billing/").status_code == 404
    assert client.post("/admin/systems/billing/switch/", {"action": "pause"}).status_code == 404
    assert client.post(f"/admin/endpoints/{endpoint.pk}/switch/", {"action": "pause"}).status_code == 404
    shown = client.get("/admin/messaging/delivery/").context["page"].rows
    assert shown
    assert {row.system.slug for row in shown} == {"crm"}
    assert "system=erp" in sign_in("superuser").get("/admin/").content.decode()
    assert "system=erp" not in client.get("/admin/").content.decode()


def test_an_admin_of_a_team_cannot_reach_beyond_it(world: Any, sign_in: Signed) -> None:
    """Neither a superuser, nor a person in another team too, nor the flag that would make one."""
    client = sign_in("admin", "Sales")
    sign_in("superuser")
    sign_in("viewer", "Sales", "Finance")
    sign_in("viewer", "Sales")
    from django.contrib.auth.models import User

    mine, shared = User.objects.filter(username__startswith="viewer").order_by("-pk")
    own = client.get(f"/admin/auth/user/{mine.pk}/change/")

    assert client.post(f"/admin/auth/user/{shared.pk}/change/", {}).status_code == 403
    assert client.get("/admin/auth/user/add/").status_code == 403
    assert "is_superuser" not in own.context["adminform"].form.fields
    root = User.objects.get(is_superuser=True)
    assert client.get(f"/admin/auth/user/{root.pk}/change/").status_code in (302, 404)


def test_only_operators_see_payloads_and_each_view_is_audited(world: Any, sign_in: Signed) -> None:
    message = Message.objects.get(pk=1)
    path = f"/admin/messaging/message/{message.pk}/change/"

    assert "Müller" not in sign_in("viewer", *TEAMS).get(path).content.decode()
    assert AuditEntry.objects.filter(action="view_payload").count() == 0

    assert "Müller" in sign_in("operator", *TEAMS).get(path).content.decode()
    assert AuditEntry.objects.filter(action="view_payload", object_id=str(message.pk)).count() == 1
