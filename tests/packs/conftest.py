"""Packs run by the command, in this process, against real servers on loopback."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.packs.harness import RunPack
from tests.testing.conftest import Outcome, admin, outcome_of

__all__ = ["admin"]


@pytest.fixture
def run_pack(tmp_path: Path, transactional_db: None, capsys: pytest.CaptureFixture[str]) -> RunPack:
    """Return a function that runs a pack by `run_suite pack:NAME` and returns what came of it."""

    def go(name: str, *args: str) -> Outcome:
        paths = tmp_path / "r.json", tmp_path / "r.xml"
        for path in paths:
            path.unlink(missing_ok=True)
        ended: Any
        with pytest.raises((SystemExit, CommandError)) as ended:
            call_command("run_suite", f"pack:{name}", f"--report=json={paths[0]},junit={paths[1]}", *args)
        return outcome_of(ended.value, paths, capsys)

    return go
