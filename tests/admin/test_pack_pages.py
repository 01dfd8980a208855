"""The pages of packs: who may run and install, and what is typed for the aliases."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from endpoints.models import Endpoint
from testing.models import Run, Suite
from tests.admin.conftest import MARKUP
from tests.admin.test_roles import ROLES, TEAMS

Signed = Callable[..., Client]
PACK = "/admin/packs/agent-events/"


@pytest.mark.parametrize("role", ROLES)
def test_packs_open_for_all_and_act_for_their_roles(role: str, world: Any, sign_in: Signed) -> None:
    """All may look; operators run, editors install."""
    client = sign_in(role, *TEAMS)
    given = {"system-events": "erp", "owner": TEAMS[0]}
    posts = {
        step: client.post(PACK, {"step": step, "slug": f"s-{role}", **given}).status_code for step in ("run", "install")
    }

    assert [client.get(path).status_code for path in ("/admin/packs/", PACK, "/admin/packs/nothing/")] == [
        200,
        200,
        404,
    ]
    least = {"run": "operator", "install": "editor"}
    assert posts == {step: 302 if ROLES.index(role) >= ROLES.index(least[step]) else 403 for step in posts}


def test_a_pack_is_run_and_installed_on_its_page(world: Any, sign_in: Signed) -> None:
    """It lands on the run, and on the suite; what was typed stays when it is refused, and is shown as text."""
    client = sign_in("superuser")
    refused = client.post(PACK, {"step": "run", "system-events": MARKUP})
    assert (refused.status_code, MARKUP in refused.content.decode()) == (422, False)
    assert "&lt;" in refused.content.decode()
    ran = client.post(PACK, {"step": "run", "system-events": "erp"})
    assert ran["Location"] == f"/admin/runs/{Run.objects.get().pk}/"
    assert Run.objects.get().systems == {"events": "erp"}
    made = client.post(PACK, {"step": "install", "system-events": "erp", "slug": "our-events"})
    assert made["Location"] == "/admin/suites/our-events/"
    assert "systems: {events: erp}" in Suite.objects.get().text
    for path in ("/admin/packs/", PACK):
        assert "/admin/suites/our-events/" in client.get(path).content.decode()


def test_systems_that_speak_what_is_needed_are_offered(world: Any, sign_in: Signed) -> None:
    first = Endpoint.objects.order_by("pk").first()
    assert first is not None
    client = sign_in("superuser")
    assert "None of your systems speaks that" in client.get(PACK).content.decode()
    Endpoint.objects.filter(pk=first.pk).update(protocol="ws", interface="live", use=["test"])

    assert f'<option value="{first.system.slug}/live">' in client.get(PACK).content.decode()
