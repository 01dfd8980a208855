"""What an installation with nothing to do costs: it is left running for years."""

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.acceptance.link import Link, seconds_between
from tests.servers.http import HttpReceiver
from tests.stack import ROOT, Stack

STATEMENTS, IN_S = 60, 5.0  # a look and a reading of who else delivers, twice a second; a sweep now and then
LATE_S = 1.0  # twice the poll: the machine may be busy


class Asked:
    """What a process asked its database, as it wrote it down."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def statements(self) -> list[str]:
        """Return what was asked so far: on PostgreSQL each execution, prepared or not."""
        lines = self._path.read_text(errors="replace").splitlines() if self._path.exists() else []
        if any("\tF\t" in line for line in lines):
            return [line for line in lines if "\tF\t" in line and line.split("\t")[3] in ("Execute", "Query")]
        return lines


def test_an_idle_engine_asks_the_database_little(
    make_stack: Callable[..., Stack], http_receiver: HttpReceiver, tmp_path: Path
) -> None:
    """It looks twice a second, with one statement; all that is to be done begins with what the look found."""
    stack = make_stack()
    stack.start("web")
    link = Link(stack, http_receiver.url)
    file = tmp_path / "asked"
    command = [sys.executable, "-m", "tests.acceptance.counting", str(file), "deliver"]
    with (stack.var / "deliver.log").open("ab") as log:
        stack.processes["deliver"] = subprocess.Popen(command, cwd=ROOT, env=stack.env, stdout=log, stderr=log)
    link.ended(link.send())
    asked = Asked(file)
    before, began = len(asked.statements()), time.monotonic()
    stack.wait_for(lambda: len(asked.statements()) >= before + STATEMENTS, 60, "an engine that looks at all")

    assert time.monotonic() - began >= IN_S, "\n".join(asked.statements()[before:])


def test_what_becomes_due_while_all_is_idle_is_noticed_within_a_poll(
    shared_stack: Stack, http_receiver: HttpReceiver
) -> None:
    """Nobody hints at a time that comes; the engine's own look finds it, and is the beginning of a claim."""
    link = Link(shared_stack, http_receiver.url)
    due_at = (datetime.now(UTC) + timedelta(seconds=1.7)).isoformat()
    delivery = link.ended(link.send(deliver_at=due_at))

    late_s = seconds_between(due_at, delivery["attempt_list"][0]["started_at"])
    assert (delivery["state"], 0 <= late_s <= LATE_S) == ("delivered", True), late_s
