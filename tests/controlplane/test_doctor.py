"""`doctor` and `prune` as people run them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from tests.stack import Stack

MAKE_CREDENTIAL = """
from endpoints.access.principal import COMMAND
from endpoints.models import Credential
from endpoints.services import credentials
credentials.set_secret(Credential(name="erp", kind="bearer"), {"token": "t" * 20}, by=COMMAND)
"""


def findings(stack: Stack, *options: str) -> list[dict[str, Any]]:
    return list(json.loads(stack.command("doctor", "--json", *options).stdout))


def test_doctor_finds_nothing_bad_in_a_fresh_installation(make_stack: Callable[..., Stack]) -> None:
    """A migrated database and development's settings are fine; that nothing runs is only said."""
    stack = make_stack()

    done = stack.command("doctor")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Run: controlplane up" in done.stdout


def test_doctor_judges_as_production_would(make_stack: Callable[..., Stack]) -> None:
    """What development makes up for itself is missing there, and each finding says what to do."""
    bad = [f for f in findings(make_stack(), "--environment", "production") if f["level"] == "bad"]

    assert {"SECRET_KEY", "CONTROLPLANE_ENCRYPTION_KEYS", "CONTROLPLANE_PUBLIC_URL"} <= {f["subject"] for f in bad}
    assert all(finding["do"] for finding in bad)


def test_doctor_finds_secrets_that_others_can_read(make_stack: Callable[..., Stack]) -> None:
    """A key file with open rights is bad."""
    stack = make_stack()
    stack.command("doctor")
    (stack.var / "secret-key").chmod(0o644)

    done = stack.command("doctor")

    assert done.returncode == 1
    assert f"chmod 600 {stack.var / 'secret-key'}" in done.stdout


def test_nobody_else_reads_what_is_stored_in_a_file(tmp_path: Path) -> None:
    """A database file that we make is its owner's alone; doctor names one that is not."""
    path = tmp_path / "new.sqlite3"
    stack = Stack(tmp_path / "var", f"sqlite:///{path}")
    findings(stack)

    assert {file.stat().st_mode & 0o077 for file in tmp_path.glob("new.sqlite3*")} == {0}
    path.chmod(0o644)
    assert [found["level"] for found in findings(stack) if found["subject"] == str(path)] == ["warning"]


def test_doctor_names_the_encryption_key_that_is_missing(make_stack: Callable[..., Stack]) -> None:
    """A key that stored secrets still need must come back before anything else is tried."""
    stack = make_stack(CONTROLPLANE_ENCRYPTION_KEYS=f"old:{Fernet.generate_key().decode()}")
    stack.command("shell", "-c", MAKE_CREDENTIAL)
    stack.env["CONTROLPLANE_ENCRYPTION_KEYS"] = f"new:{Fernet.generate_key().decode()}"

    bad = [finding for finding in findings(stack) if finding["level"] == "bad"]

    assert [finding["subject"] for finding in bad] == ["endpoints.E001"]
    assert "'old'" in bad[0]["text"]


def test_doctor_and_status_survive_a_missing_database(make_stack: Callable[..., Stack]) -> None:
    """The commands one runs when something is wrong must not be what breaks."""
    stack = make_stack()
    broken = {"sqlite": "sqlite:////nowhere/x.sqlite3", "postgresql": "postgresql://u:p@127.0.0.1:1/x"}
    stack.env["DATABASE_URL"] = broken[stack.database_url.partition(":")[0]]

    for command, code in (("doctor", 1), ("status", 2)):
        done = stack.command(command)
        assert done.returncode == code, done.stderr
        assert "does not answer" in done.stdout
        assert "Traceback" not in done.stderr
        assert "error connecting" not in done.stderr, "what the pool says at each of its tries"


def test_prune_says_what_went(make_stack: Callable[..., Stack]) -> None:
    """Nothing is old in a fresh database."""
    done = make_stack().command("prune")

    assert done.returncode == 0, done.stderr
    assert "bodies            0" in done.stdout
