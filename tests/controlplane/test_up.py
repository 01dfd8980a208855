"""`up` and `stop` over real processes: what dies comes back, and what stops leaves nothing."""

import json
import os
import signal
import stat
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.stack import Stack, wait_for

ROLES = ("--roles", "web", "worker")
STOP_IDLE_S = 10


@pytest.fixture
def database_url(sqlite_databases: Any) -> Any:
    """One engine is enough here: the supervisor knows of none."""
    with sqlite_databases.fresh() as url:
        yield url


def run_file(stack: Stack) -> dict[str, Any]:
    return dict(json.loads((stack.var / "run" / "supervisor.json").read_text()))


def child(stack: Stack, role: str) -> int:
    """Return the pid that fills `role` now, 0 while there is none."""
    return next(p["pid"] or 0 for p in run_file(stack)["processes"] if p["role"] == role)


def test_a_killed_process_starts_again_and_is_counted(make_stack: Callable[..., Stack]) -> None:
    """SIGKILL of a child costs about a second, and the status knows."""
    stack = make_stack()
    stack.start("up", *ROLES)
    first = child(stack, "web")

    os.kill(first, signal.SIGKILL)
    wait_for(lambda: child(stack, "web") not in (0, first), what="a new web process")

    assert [p["restarts"] for p in run_file(stack)["processes"]] == [1, 0]


def test_a_command_in_another_terminal_names_where_it_listens(make_stack: Callable[..., Stack]) -> None:
    """With another port than the usual one, links lead there without a setting."""
    stack = make_stack(CONTROLPLANE_PUBLIC_URL="")
    stack.start("up", *ROLES)
    stack.register("webshop")
    stack.register("erp", "http://127.0.0.1:9/in")
    message = stack.command("send", "webshop", "erp", "--payload", "{}").stdout.split()[1].strip(",")

    assert f"{stack.url}/admin/" in stack.command("why", message).stdout


def test_sigterm_stops_everything_within_ten_seconds(make_stack: Callable[..., Stack]) -> None:
    """Exit code 0, no process and no pid file left."""
    stack = make_stack()
    pid = stack.start("up", *ROLES)
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    wait_for(lambda: len(psutil.Process(pid).children()) == 2, what="both children")

    assert stack.terminate("up", STOP_IDLE_S) == 0
    assert not [process for process in family if process.is_running()]
    assert not (stack.var / "run" / "supervisor.json").exists()


def test_stop_waits_until_all_is_gone(make_stack: Callable[..., Stack]) -> None:
    """After `stop` the port and the files are free."""
    stack = make_stack()
    pid = stack.start("up", *ROLES)
    children = psutil.Process(pid).children(recursive=True)

    refused = stack.command("stop", "--timeout", "-5")
    assert (refused.returncode, "no length of time" in refused.stderr) == (2, True), refused.stderr
    assert stack.answers("up")
    done = stack.command("stop")

    assert done.returncode == 0, done.stderr
    assert stack.processes.pop("up").wait(10) == 0
    assert not [process for process in children if process.is_running()]
    assert "Nothing is running" in stack.command("stop").stdout


def test_a_web_process_that_was_stopped_is_not_missed(make_stack: Callable[..., Stack]) -> None:
    """Stopping is no loss: the status forgets it at once instead of calling it gone."""
    stack = make_stack()
    stack.start("up", "--roles", "web")

    stack.command("stop")

    assert json.loads(stack.command("status", "--json").stdout)["processes"] == []


def test_children_do_not_outlive_a_killed_supervisor(make_stack: Callable[..., Stack]) -> None:
    """SIGKILL of the supervisor leaves no orphan behind."""
    stack = make_stack()
    pid = stack.start("up", *ROLES)
    children = psutil.Process(pid).children(recursive=True)

    stack.kill("up")

    wait_for(lambda: not [c for c in children if c.is_running()], what="the children's end")


def test_a_second_up_on_the_same_installation_is_refused(make_stack: Callable[..., Stack]) -> None:
    """One supervisor an installation; the message says what to do."""
    stack = make_stack()
    stack.start("up", *ROLES)

    done = stack.command("up", "--port", str(stack.port + 1))

    assert done.returncode == 1
    assert "Already running" in done.stderr
    assert "controlplane stop" in done.stderr


def test_a_taken_port_is_refused_before_anything_starts(make_stack: Callable[..., Stack]) -> None:
    """One line that names the address, no traceback, nothing left running."""
    first, second = make_stack(), make_stack()
    first.start("up", *ROLES)

    done = second.command("up", "--port", str(first.port))

    assert done.returncode == 1
    assert f"127.0.0.1:{first.port}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (second.var / "run" / "supervisor.json").exists()


def test_the_first_admin_logs_in_by_a_link_that_works_once(make_stack: Callable[..., Stack]) -> None:
    """The password is private, the link is spent by its first use, and a GET alone does not spend it."""
    stack = make_stack()
    stack.start("up", *ROLES)
    assert stat.S_IMODE((stack.var / "admin-password").stat().st_mode) == 0o600
    link = next(word for word in stack.log("up").split() if "/admin/login/link/" in word)

    for _ in range(2):
        page = stack.session.get(link, timeout=30)
        assert page.status_code == 200
    form = {"csrfmiddlewaretoken": stack.session.cookies["csrftoken"]}
    entered = stack.session.post(link, data=form, timeout=30, headers={"Referer": link})
    assert entered.url == f"{stack.url}/admin/"
    assert stack.sql("SELECT count(*) FROM endpoints_auditentry WHERE action = ?", "login_link") == [(1,)]

    stack.session.cookies.clear()
    assert "link=used" in stack.session.get(link, timeout=30).url


def test_status_tells_down_and_why_without_processes(make_stack: Callable[..., Stack]) -> None:
    """Exit code 2 and reasons, as JSON and as text."""
    stack = make_stack()

    done = stack.command("status", "--json")

    assert done.returncode == 2
    assert json.loads(done.stdout)["reasons"] == ["no web process is running", "no deliver process is running"]
    assert "no web process is running" in stack.command("status").stdout


@pytest.mark.parametrize("app", ["messaging", "testing"])
def test_code_that_is_older_than_the_database_does_not_start(app: str, make_stack: Callable[..., Stack]) -> None:
    """Whichever part of it a newer version has migrated."""
    stack = make_stack()
    migrated = "INSERT INTO django_migrations (app, name, applied) VALUES (?, '9999_newer', '2030-01-01')"
    stack.sql(migrated, app)

    done = stack.command("up", "--roles", "worker", timeout=30)

    assert (done.returncode, f"{app}.9999_newer" in done.stderr) == (1, True)
