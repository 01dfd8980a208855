"""A command that only asks, started where there is no installation, says so and makes none."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands

from controlplane.commands import GROUPS
from tests.stack import ROOT, environment, run

OURS = {"controlplane", "endpoints", "messaging", "testing"}
ASKING = [
    ("status",),
    ("status", "--json"),
    ("stop",),
    ("send", "shop", "crm"),
    ("jobs", "list"),
    ("why", "m-1"),
    ("create_api_key", "mine", "--role", "admin"),
    ("export", "suite"),
    ("createsuperuser",),
]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_without_an_installation_a_command_says_where_it_looked_and_leaves_nothing(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    """The file that it looked for, and both ways to name another; not keys and an empty database."""
    var = tmp_path / "var"
    done = run([*words], environment(var, ""))

    assert (done.returncode, done.stdout) == (2, "")
    assert f"There is no installation here: there is no {'folder ' if words == ('stop',) else ''}{var}" in done.stderr
    assert "CONTROLPLANE_VAR" in done.stderr
    assert "DATABASE_URL" in done.stderr
    assert left(tmp_path) == []


def test_the_folder_one_stands_in_is_the_one_that_is_named(tmp_path: Path) -> None:
    """Without any setting the installation is in `var` here."""
    env = {**environment(tmp_path, ""), "PYTHONPATH": str(ROOT)}
    del env["CONTROLPLANE_VAR"], env["DATABASE_URL"]
    done = subprocess.run(
        [sys.executable, "-m", "controlplane", "status"],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 2
    assert f"there is no {tmp_path / 'var' / 'controlplane.sqlite3'}," in done.stderr
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "words", [(), ("help",), ("--help",), ("help", "send"), ("send", "--help"), ("export", "schema", "suite")], ids=str
)
def test_help_needs_no_installation_and_makes_none(words: tuple[str, ...], tmp_path: Path) -> None:
    done = run([*words], environment(tmp_path / "var", ""))

    assert (done.returncode, done.stderr) == (0, "")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("sned", "shop", "crm"), "Did you mean send?"),
        (("help", "runsuite"), "Did you mean run_suite?"),
        (("mesages",), "There is no command 'mesages'. `controlplane help` names them all."),
    ],
    ids=str,
)
def test_a_mistyped_command_is_told_the_nearest_of_ours_and_leaves_nothing(
    words: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    done = run([*words], environment(tmp_path / "var", ""))

    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert left(tmp_path) == []


def test_a_command_of_the_framework_leaves_nothing(tmp_path: Path) -> None:
    done = run(["check"], environment(tmp_path / "var", ""))

    assert done.returncode == 0, done.stderr
    assert left(tmp_path) == []


def test_a_mistyped_setting_is_told_before_a_missing_installation(tmp_path: Path) -> None:
    """It may be what names the installation."""
    done = run(["status"], {**environment(tmp_path / "var", ""), "CONTROLPLANE_VAAR": "/srv"})

    assert done.returncode == 2
    assert "Did you mean CONTROLPLANE_VAR?" in done.stderr
    assert left(tmp_path) == []


def test_an_installation_is_made_by_migrate_and_found_by_what_asks(tmp_path: Path) -> None:
    """As it always was: who starts one need not prepare its folder."""
    env = environment(tmp_path / "var", "")
    made = run(["migrate", "--verbosity=0"], env)
    assert made.returncode == 0, made.stderr
    assert {"controlplane.sqlite3", "encryption-keys", "secret-key"} <= set(left(tmp_path / "var"))

    assert "Start with: controlplane up" in run(["status"], env).stdout
    stopped = run(["stop"], env)
    assert (stopped.returncode, stopped.stdout) == (0, "Nothing is running here.\n")


def test_every_command_of_ours_has_its_place_in_the_table() -> None:
    """What is not in it would make an installation wherever it is started."""
    ours = {name for name, app in get_commands().items() if app in OURS}

    named = [name for names in GROUPS.values() for name in names]
    assert set(named) == ours | {"migrate"}
    assert len(named) == len(set(named))
