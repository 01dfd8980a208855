"""What a run may read and ask: no more than whoever asked for it, by whatever way it came about."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from endpoints import services
from endpoints.access.principal import COMMAND
from endpoints.models import Credential, System
from testing.models import Run, Suite
from testing.runner.worker import running
from tests.admin.conftest import sign_in
from tests.endpoints.conftest import Caller
from tests.servers.http import HttpReceiver
from tests.testing.conftest import register, until_ended

__all__ = ["sign_in"]

TEXT = "suite: shop\nsystems: {api: orders}\ncases:\n  - {case: c, steps: [{http: {system: api}, assert: none}]}\n"
# A called suite: it asks its own system, with a secret.
LOGIN = """
suite: login
systems: {auth: SYSTEM}
cases:
  - case: c
    steps:
      - {http: {system: auth, path: "/${{ secret.CREDENTIAL.token }}"}, assert: none}
"""
CALLS = "suite: shop\nsystems: {api: orders}\ncases:\n  - {case: c, steps: [{call: {suite: login, case: c%s}}]}\n"


def ran(caller: Caller, slug: str, **wish: Any) -> dict[str, Any]:
    """Return the run of a stored suite once a worker has ended it."""
    started = caller("POST", f"suites/{slug}/run/", wish)
    assert started.status == 202, started.json
    return until_ended(caller, started.json["id"])[0]


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


@pytest.mark.parametrize("owner", ["Blue", None])
def test_a_called_suite_gets_nothing_that_is_not_its_own_teams(
    owner: str | None, admin: Caller, orders: HttpReceiver
) -> None:
    """Whoever writes it may be of another team than whoever calls it: neither their secrets nor their systems."""
    red, blue = Group.objects.create(name="Red"), Group.objects.create(name="Blue")
    own = {"Blue": blue, None: None}[owner]
    with HttpReceiver() as theirs, running():
        register(admin, "theirs", theirs.url)
        System.objects.filter(slug="orders").update(owner=red)
        System.objects.filter(slug="theirs").update(owner=own)
        Credential.objects.update(owner=red)
        assert admin("POST", "suites/", {"text": CALLS % ""}).status == 201
        login = LOGIN.replace("CREDENTIAL", "orders-token")
        assert admin("POST", "suites/", {"text": login.replace("SYSTEM", "theirs")}).status == 201
        Suite.objects.filter(slug="login").update(owner=own)

        secret = ran(admin, "shop")
        assert (secret["verdict"], theirs.received) == ("errored", [])
        reason = admin("GET", f"runs/{secret['id']}/report.json").json["cases"][0]["reason"]
        assert "no secret 'orders-token.token'" in reason
        plain = LOGIN.replace("SYSTEM", "orders").replace("${{ secret.CREDENTIAL.token }}", "x")
        assert admin("PUT", "suites/login/", {"text": plain}).status == 200
        system = ran(admin, "shop")
        assert (system["verdict"], orders.received) == ("errored", [])
        assert admin("PUT", "suites/shop/", {"text": CALLS % ", systems: {auth: api}"}).status == 200
        assert (ran(admin, "shop")["verdict"], len(orders.received)) == ("passed", 1)
        # The caller's own team's reads and asks both.
        Suite.objects.filter(slug="login").update(owner=red)
        assert admin("PUT", "suites/login/", {"text": login.replace("SYSTEM", "orders")}).status == 200
        assert admin("PUT", "suites/shop/", {"text": CALLS % ""}).status == 200
        assert (ran(admin, "shop")["verdict"], len(orders.received)) == ("passed", 2)


def test_an_operator_sends_no_secret_of_a_called_suite_elsewhere(admin: Caller, orders: HttpReceiver) -> None:
    """To replace a system of a suite that reads secrets takes an editor, wherever it reads them."""
    login = LOGIN.replace("SYSTEM", "orders").replace("CREDENTIAL", "orders-token")
    assert admin("POST", "suites/", {"text": login}).status == 201
    assert admin("POST", "suites/", {"text": CALLS % ", systems: {auth: api}"}).status == 201
    operator, editor = (Caller(services.create_api_key(role, role, by=COMMAND)[1]) for role in ("operator", "editor"))
    with HttpReceiver() as elsewhere, running():
        register(admin, "elsewhere", elsewhere.url)
        refused = ran(operator, "shop", systems={"api": "elsewhere"})
        assert (refused["verdict"], elsewhere.received) == ("errored", [])
        assert "by an editor only" in refused["reason"]
        assert ran(operator, "shop")["verdict"] == "passed"
        assert ran(editor, "shop", systems={"api": "elsewhere"})["verdict"] == "passed"
        assert len(elsewhere.received) == 1


VARS = """
suite: shop
systems: {api: orders}
vars: {api_token: none, region: eu, password: none}
cases:
  - case: c
    steps:
      - http: {system: api, method: POST, json: ["${{ vars.api_token }}", "${{ vars.region }}", "${{ vars.password }}"]}
        assert: [{status: {eq: 200}}]
"""


def test_variables_are_for_operators_and_secret_ones_for_nobody(
    admin: Caller, orders: HttpReceiver, sign_in: Callable[..., Client]
) -> None:
    """A value under a name that promises a secret is masked wherever it turns up; a viewer learns names only."""
    assert admin("POST", "suites/", {"text": VARS}).status == 201
    given = {"api_token": "first-hidden", "region": "north-1", "password": 4711_0815}
    with running():
        first = ran(admin, "shop", vars=given)
        last = ran(admin, "shop", vars={**given, "api_token": "other-hidden", "region": "south-2"})
    assert b"first-hidden" in orders.received[0].body
    keys = {role: Caller(services.create_api_key(role, role, by=COMMAND)[1]) for role in ("viewer", "operator")}
    path = f"history/compare/?before={first['id']}&after={last['id']}"
    told = {
        role: {row["text"]: row["detail"] for row in key("GET", path).json["changes"]} for role, key in keys.items()
    }
    names = [f"Another variable was given: {name}" for name in ("api_token", "region")]
    assert told["viewer"] == dict.fromkeys(names, "")
    assert told["operator"] == dict(zip(names, ("*** → ***", "north-1 → south-2"), strict=True))

    report = keys["operator"]("GET", f"runs/{last['id']}/report.json").body.decode()
    page = {role: sign_in(role).get(f"/admin/runs/{last['id']}/").content.decode() for role in keys}
    assert ("south-2" in report, "south-2" in page["operator"], "south-2" in page["viewer"]) == (True, True, False)
    for text in (report, *page.values()):
        assert not [secret for secret in ("other-hidden", "47110815") if secret in text]
    assert "Variable region" in page["viewer"]
