"""What a run found is written down once and in full, or the run has no verdict: databases lose answers, and go away."""

import asyncio
import uuid
from collections.abc import Mapping

import pytest
from django.db import InterfaceError, OperationalError, transaction

from endpoints.access.principal import COMMAND
from testing.errors import Unwritten
from testing.models import CaseRun, Run, RunState
from testing.runner import leases, recorder
from testing.runner.execute import Execution
from testing.runner.holding import RunHold
from testing.services import runs
from testing.services.runs import Wish

pytestmark = pytest.mark.django_db(transaction=True)

TEXT = """\
suite: kept
cases:
  - {case: one, steps: [{wait: 1ms}]}
  - {case: two, steps: [{wait: 400ms}]}
"""


def worked(kind: type[RunHold]) -> Run:
    """Work a run here, under a hold of that kind, and return its row."""
    made = runs.start_text(TEXT, Wish(), by=COMMAND)
    run = leases.take(made.pk, uuid.uuid4())
    assert run is not None
    assert run.lease_token is not None
    asyncio.run(Execution(run, run.lease_token, hold=kind(run.pk, run.lease_token)).work())
    return Run.objects.get(pk=run.pk)


class AnswerLost(RunHold):
    """The first commit of results succeeds, and the connection is lost before the answer to it comes."""

    def note(self, more: Mapping[str, int]) -> bool:
        if not CaseRun.objects.filter(run=self.run_id).exists():
            transaction.on_commit(_lost)
        return super().note(more)


class Away(RunHold):
    """The connection is closed whenever results are to be written."""

    def note(self, more: Mapping[str, int]) -> bool:
        raise InterfaceError("connection already closed")


def _lost() -> None:
    raise OperationalError("the connection was lost")


def test_results_whose_commit_lost_its_answer_are_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are tried again, found there and counted once; what came after them is written, too."""
    monkeypatch.setattr(recorder, "AGAIN_S", 0.01)
    run = worked(AnswerLost)

    assert (run.verdict, run.counts) == ("passed", {"passed": 2})
    assert list(CaseRun.objects.values_list("case", flat=True)) == ["one", "two"]


def test_a_run_whose_results_cannot_be_written_has_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays as it is until its lease is over, and another worker takes it."""
    monkeypatch.setattr(recorder, "AGAIN_S", 0.01)
    with pytest.raises(Unwritten, match="results of 2 cases"):
        worked(Away)

    run = Run.objects.get()
    assert (run.state, run.verdict, run.lease_until is not None) == (RunState.RUNNING, "", True)
    assert not CaseRun.objects.exists()
