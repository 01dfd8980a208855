"""What a run may read and ask: no more than whoever asked for it, by whatever way it came about."""

import pytest
from django.contrib.auth.models import Group

from endpoints import services
from endpoints.access.principal import COMMAND
from endpoints.models import System
from testing.models import Run, Suite
from tests.endpoints.conftest import Caller
from tests.servers.http import HttpReceiver

TEXT = "suite: shop\nsystems: {api: orders}\ncases:\n  - {case: c, steps: [{http: {system: api}, assert: none}]}\n"


@pytest.mark.parametrize("role", ["operator", "editor"])
def test_a_key_that_speaks_as_one_system_starts_no_run(role: str, admin: Caller, orders: HttpReceiver) -> None:
    """Neither at once, nor again, nor later by a schedule or a change: a run speaks to whatever its document names."""
    assert admin("POST", "suites/", {"text": TEXT}).status == 201
    done = admin("POST", "suites/shop/run/", {}).json["id"]
    Run.objects.update(state="ended", verdict="passed")
    red = Group.objects.create(name="Red")
    bound = Caller(services.create_api_key("bound", role, by=COMMAND, team=red, system=System.objects.get())[1])
    asked = [
        bound("POST", "suites/shop/run/", {}),
        bound("POST", f"runs/{done}/rerun/", {}),
        bound("POST", "packs/communication/run/", {}),
    ]
    if role == "editor":
        nightly = TEXT.replace("shop", "nightly", 1) + 'schedule: {cron: "0 3 * * *"}\n'
        asked.append(bound("POST", "suites/", {"text": nightly}))
        asked.append(bound("PUT", "suites/shop/", {"text": f"{TEXT}triggers: [endpoint_changed]\n"}))

    assert [(found.status, found.json["code"]) for found in asked] == [(403, "bound_key")] * len(asked)
    assert "speaks only as orders" in asked[0].json["detail"]
    assert (Run.objects.count(), Suite.objects.get().version) == (1, 1)
