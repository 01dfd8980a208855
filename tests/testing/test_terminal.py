"""What a person at a terminal sees of a run while it goes, and what a log says of it."""

import re

import pytest

from tests.servers.http import HttpReceiver
from tests.testing.test_runs import Run, ask, case, suite

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_a_terminal_shows_how_far_it_is_and_what_runs(
    run: Run, orders: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts by verdict, each case that runs with the step it is in, and for good what did not pass."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes that for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    orders.answer_at("/bad", 500)
    done = run(suite(case("bad", ask(path="/bad")), case("slow", ask(), "{wait: 900ms}")))
    shown = SEQUENCE.sub("", done.out)

    assert done.code == 1
    assert "0/2" in shown or "1/2" in shown
    assert "1 failed" in shown
    assert re.search(r"slow / wait in line \d+ +\d+\.\d s", shown), shown
    assert "failed bad: http in line 5: status: expected 200, got 500" in shown
    assert re.search(r"failed orders-suite \(1 failed, 1 passed\) in \d+\.\d\d s, run [0-9a-f-]{36}: bad", shown)


def test_a_log_gets_lines_and_nothing_that_moves(run: Run, orders: HttpReceiver) -> None:
    orders.answer_at("/bad", 500)
    done = run(suite(case("bad", ask(path="/bad")), case("good", ask())))

    assert "\x1b" not in done.out
    assert "\r" not in done.out
    assert [line.split(" ")[0] for line in done.out.splitlines() if line][:2] == ["failed", "failed"]
