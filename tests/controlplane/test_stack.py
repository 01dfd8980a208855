"""The harness itself: what every other test stands on."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import warm
from tests.stack import Stack, environment


def test_a_fresh_database_is_migrated_and_empty(make_stack: Callable[..., Stack]) -> None:
    """Each test begins with every table and no row, on either engine."""
    stack = make_stack()

    assert stack.sql("SELECT count(*) FROM endpoints_system WHERE slug <> ?", "none") == [(0,)]


ASK = (
    "import json, os, sys, threading; from pathlib import Path; "
    "print(json.dumps([sys.argv, sys.path, dict(os.environ), os.getcwd(), os.getpgid(0), sys.flags.__repr__(), "
    "sorted(os.readlink(f'/proc/self/fd/{fd}') for fd in range(20) if Path(f'/proc/self/fd/{fd}').is_symlink() "
    "and fd > 2), [thread.name for thread in threading.enumerate()], "
    "sys.stdin.read(), sys.stdout.encoding]))"
)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path / "var", f"sqlite:///{tmp_path}/db.sqlite3")


@pytest.fixture(params=["warm", "cold"])
def started(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "cold":
        monkeypatch.setenv("TEST_COLD_STARTS", "1")
    return str(request.param)


def test_starts_are_warm() -> None:
    """What is measured starts cold, and to import any of it would make all starts of these processes cold."""
    assert "benchmarks" not in sys.modules


def test_a_warm_start_is_in_the_place_of_a_cold_one(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Same arguments, module path, environment, folder, group, files and threads: nobody can tell them apart."""
    argv = ["manage.py", "shell", "--verbosity=0", "--command", ASK]
    warm_one = warm.run(argv, env, 60)
    monkeypatch.setenv("TEST_COLD_STARTS", "1")
    cold_one = warm.run(argv, env, 60)

    assert (warm_one.returncode, warm_one.stderr) == (0, ""), warm_one.stderr
    assert json.loads(warm_one.stdout) == json.loads(cold_one.stdout)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('no')", 1, "no"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import atexit, sys; atexit.register(sys.stderr.write, 'bye')", 0, "bye"),
    ],
)
def test_a_program_ends_as_it_would(started: str, env: dict[str, str], words: str, code: int, said: str) -> None:
    """Exit codes, signals, tracebacks and what is run at the end are the interpreter's own."""
    done = warm.run(["manage.py", "shell", "--verbosity=0", "--command", words], env, 60)

    assert done.returncode == code, done.stderr
    assert said in done.stderr


def test_what_takes_too_long_is_killed(started: str, env: dict[str, str]) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run(["manage.py", "shell", "--verbosity=0", "--command", "import time; time.sleep(600)"], env, 3)


def test_what_the_interpreter_reads_itself_makes_a_start_cold(env: dict[str, str], tmp_path: Path) -> None:
    """A fork would not look for modules where it is told to."""
    (tmp_path / "only_here.py").write_text("")
    look = ["manage.py", "shell", "--verbosity=0", "--command", "import only_here"]

    assert warm.run(look, {**env, "PYTHONPATH": str(tmp_path)}, 60).returncode == 0
    assert warm.run(look, env, 60).returncode == 1
