"""What a run found is written down once and in full, or the run has no verdict: databases lose answers and go away."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction

from endpoints.access.principal import COMMAND
from testing.errors import Unwritten
from testing.models import CaseRun, Run, RunState
from testing.runner import ending, leases, recorder
from testing.runner.execute import Execution
from testing.runner.holding import RunHold
from testing.runner.results import RunResult
from testing.services import runs
from testing.services.runs import Wish
from tests.testing.conftest import Outcome

pytestmark = pytest.mark.django_db(transaction=True)

TEXT = """\
suite: kept
cases:
  - {case: one, steps: [{wait: 1ms}]}
  - {case: two, steps: [{wait: 400ms}]}
"""
SQLITE_REFUSES = (
    "CREATE TRIGGER refuse BEFORE UPDATE ON testing_run WHEN NEW.state = 'ended'"
    " BEGIN SELECT RAISE(ABORT, 'refused'); END",
)
POSTGRESQL_REFUSES = (
    "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$",
    "CREATE TRIGGER refuse BEFORE UPDATE ON testing_run FOR EACH ROW"
    " WHEN (NEW.state = 'ended') EXECUTE FUNCTION refuse()",
)


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


def test_the_lease_is_kept_while_the_last_results_are_written() -> None:
    """However long that takes, nobody else takes the run."""
    looks = threading.Semaphore(0)
    was_kept = []

    class Slow(RunHold):
        """To write results takes until the lease was looked after once more."""

        def look(self) -> tuple[str, str]:
            looks.release()
            return super().look()

        def note(self, more: Mapping[str, int]) -> bool:
            while looks.acquire(blocking=False):
                pass
            was_kept.append(looks.acquire(timeout=10))
            return super().note(more)

    run = worked(Slow)

    assert (run.verdict, run.counts) == ("passed", {"passed": 2})
    assert was_kept
    assert all(was_kept)


def test_a_verdict_is_written_again_when_the_connection_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """One lost connection does not cost a run that came to its end."""
    monkeypatch.setattr(ending, "AGAIN_S", 0.01)
    tried = []

    class Unlucky(RunHold):
        def end(self, result: RunResult) -> bool:
            tried.append(result.verdict)
            if len(tried) == 1:
                _lost()
            return super().end(result)

    run = worked(Unlucky)

    assert (run.state, run.verdict, tried) == (RunState.ENDED, "passed", ["passed", "passed"])


@pytest.fixture
def _no_verdicts(transactional_db: None) -> Iterator[None]:
    """Let the database refuse to end a run."""
    sqlite = connection.vendor == "sqlite"
    with connection.cursor() as cursor:
        for line in SQLITE_REFUSES if sqlite else POSTGRESQL_REFUSES:
            cursor.execute(line)
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER refuse" if sqlite else "DROP FUNCTION refuse CASCADE")


@pytest.mark.usefixtures("_no_verdicts")
def test_a_run_without_a_verdict_is_not_said_to_have_failed(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends with 2 and says what became of it: 1 would be the verdict of a suite that failed."""
    monkeypatch.setattr(ending, "AGAIN_S", 0.01)
    done = run(TEXT)

    assert (done.code, done.report) == (2, {})
    assert "has no verdict: the database did not take the verdict" in done.out
