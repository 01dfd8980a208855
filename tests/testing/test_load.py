"""Load: paced as asked, measured from the intended start, judged as a whole."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.endpoints.conftest import Caller
from tests.servers.http import HttpReceiver
from tests.testing.conftest import Outcome, answer, register

Run = Callable[..., Outcome]
STEP = "{http: {system: api}, assert: [{status: {eq: 200}}]}"


def load(more: str, step: str = STEP, top: str = "", case: str = "") -> str:
    return (
        f"suite: orders-load\nsystems: {{api: orders}}\n{top}\n"
        f"cases:\n  - {{case: one, load: {{{more}}}, steps: [{step}]{case}}}\n"
    )


def of(done: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = done.cases["one"]["load"]
    return found


def test_an_open_load_starts_as_many_as_its_stages_say(run: Run, orders: HttpReceiver) -> None:
    """A ramp from 0 to 100/s over a second is 50 arrivals, a second at 100/s is 100."""
    done = run(load("stages: [{for: 1s, to: 100/s}, {for: 1s, at: 100/s}]"))

    assert (done.code, done.verdict) == (0, "passed"), done.out
    assert of(done)["figures"]["iterations"] == 150
