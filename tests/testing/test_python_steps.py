"""The step `python`: hooks of the operator's own, judged by themselves, that hold up and reveal nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings

from tests.endpoints.conftest import Caller
from tests.servers.http import HttpReceiver
from tests.testing.conftest import Outcome

Run = Callable[..., Outcome]
MODULE = "tests.testing.hooks.shop"
SYSTEM = "{body.$.values.system.system: {eq: orders}}"


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow the one module, as CONTROLPLANE_PYTHON_MODULES does."""
    monkeypatch.setattr(settings, "ENV", replace(settings.ENV, python_modules=[MODULE]))


def suite(*steps: str) -> str:
    cases = "".join(f"  - {{case: c{number}, steps: [{step}]}}\n" for number, step in enumerate(steps))
    return f"suite: hooks\nsystems: {{api: orders}}\nexecution: {{mode: parallel}}\ncases:\n{cases}"


def hooks(given: str = "", more: str = "", module: str = MODULE) -> str:
    return f"{{python: {{module: {module}, with: {{{given}}}}}{more}}}"


def test_hooks_judge(run: Run, orders: HttpReceiver) -> None:
    """True passes, False and a broken assertion fail; any other exception, or no word at all, cannot be judged."""
    done = run(
        suite(
            f"{{python: {{module: {MODULE}, systems: [api]}}, assert: [{SYSTEM}]}}",
            hooks("number: -1"),
            hooks("number: 100"),
            hooks("do: raise"),
            hooks("do: exit"),
            hooks("number: -1", ", assert: [{error.code: {eq: returned_false}}]"),
            f"{{python: {{module: {MODULE}, class: Nobody}}}}",
        )
    )

    told = ["passed", "failed", "failed", "errored", "errored", "passed", "errored"]
    assert list(done.verdicts.values()) == told, done.out
    assert "the number is too large" in done.cases["c2"]["reason"]
    assert "ConnectionResetError: the line broke" in done.cases["c3"]["reason"]
    assert "ended with code 3" in done.cases["c4"]["reason"]


def test_a_module_that_nobody_allowed_is_not_run(run: Run, orders: HttpReceiver) -> None:
    """By default there is none; what stands beside an allowed one, or below it, is not allowed with it."""
    done = run(suite(hooks(module="os"), hooks(module=f"{MODULE}.more"), hooks(module="tests.testing.hooks")))

    assert set(done.verdicts.values()) == {"errored"}
    assert "CONTROLPLANE_PYTHON_MODULES" in done.cases["c0"]["reason"]
    assert run(suite(hooks(module='"os; import sys"'))).code == 2


def test_hooks_that_block_hold_up_nobody(run: Run, orders: HttpReceiver, tmp_path: Path) -> None:
    """They are ended with their step: one that waits still cleans up, one that blocks is killed; others go on."""
    mark, other = tmp_path / "waited", tmp_path / "blocked"
    done = run(
        suite(
            hooks(f"do: wait, mark: {mark}", ", timeout: 2s"),
            hooks(f"do: block, mark: {other}", ", timeout: 2s"),
            "{http: {system: api, path: /}, assert: [{status: {eq: 200}}]}",
        )
    )

    assert done.verdicts == {"c0": "failed", "c1": "failed", "c2": "passed"}
    assert "no outcome within 2 s" in done.cases["c1"]["reason"]
    assert (mark.exists(), other.exists()) == (True, False)
    assert done.cases["c2"]["took_ms"] < done.cases["c1"]["took_ms"]


def test_hooks_know_none_of_our_secrets(run: Run, orders: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not our environment; and a secret that the suite hands them is masked in what they print."""
    monkeypatch.setenv("SECRET_KEY", "canary-secret-key")
    monkeypatch.setenv("DATABASE_URL", "canary-database-url")
    done = run(
        suite(
            hooks(
                'do: tell, say: "${{ secret.orders-token.token }}"',
                ", assert: [{body.$.output: {search: printed None None}}]",
            )
        )
    )

    assert done.code == 0, done.out
    assert "canary" not in done.raw
    assert "s3cret-token-of-orders" not in done.raw


def test_hooks_reach_what_deliveries_reach(run: Run, orders: HttpReceiver) -> None:
    """Python's sockets connect to no forbidden address; it is no sandbox, and stops a mistake, not an enemy."""
    done = run(
        suite(
            hooks(f"do: connect, host: 127.0.0.1, port: {orders.port}"),
            hooks("do: connect, host: 169.254.169.254, port: 80"),
        )
    )

    assert done.verdicts == {"c0": "passed", "c1": "errored"}
    assert "address 169.254.169.254 port 80 is refused" in done.cases["c1"]["reason"]


def test_hooks_that_name_no_system_need_leave(run: Run, admin: Caller, orders: HttpReceiver) -> None:
    """Their host may be one of production, once there is any; those that name theirs are judged by it."""
    assert admin("POST", "systems/", {"slug": "shop", "name": "Shop", "environment": "production"}).status == 201
    unnamed = hooks(f"do: connect, host: 127.0.0.1, port: {orders.port}")
    done = run(suite(unnamed, f"{{python: {{module: {MODULE}, systems: [api]}}}}"))

    assert done.verdicts == {"c0": "errored", "c1": "passed"}
    assert "--allow-production" in done.cases["c0"]["reason"]
    assert run(suite(unnamed), "--allow-production").code == 0


def test_what_hooks_leave_behind_makes_dirty(run: Run, orders: HttpReceiver) -> None:
    """A cleanup never changes the verdict."""
    done = run(suite(hooks("dirty: true"), hooks("dirty: true, number: -1")))

    assert done.verdicts == {"c0": "passed", "c1": "failed"}
    assert (done.cases["c0"]["dirty"], done.cases["c1"]["dirty"], done.report["dirty"]) == (True, True, True)
