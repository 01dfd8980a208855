"""Once more: a run of the same document on the same systems, of all its cases or of those that did not pass."""

from endpoints.access import roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict
from testing.document.reader import read_suite
from testing.models import CaseRun, Part, Run, RunState, Verdict
from testing.services import runs
from testing.services.runs import Wish


def rerun(run: Run, *, only_failed: bool, by: Principal) -> Run:
    """Make the run; it acts for the caller, whose teams and role are asked for anew.

    With `only_failed` it runs what did not pass, in the same combinations and rows, and
    what that needs. Raises Forbidden, Refused as a first run does, or Conflict for a run
    that has not ended, was imported, or has nothing to run again.
    """
    roles.require(by, "runs", "rerun")
    if run.state != RunState.ENDED:
        raise Conflict("the run has not ended", code="not_ended")
    if run.imported_as:
        raise Conflict("its results came from elsewhere: run it again where they came from", code="imported")
    known = read_suite(run.document.text).systems
    wish = Wish(
        systems={alias: name for alias, name in run.systems.items() if known.get(alias) != name},
        vars=run.vars,
        rows=run.rows,
        parallel=run.parallel,
        allow_production=run.allow_production,
        cases=run.only,
        numbers=_not_passed(run) if only_failed else run.numbers,
        rerun_of=run,
    )
    return runs.repeat(run, wish, by=by)


def _not_passed(run: Run) -> list[int] | None:
    """Return the numbers of the cases that did not pass; None, so all, of a run that never came to one."""
    cases = CaseRun.objects.filter(run=run, part=Part.CASE)
    found = list(cases.exclude(verdict=Verdict.PASSED).order_by("number").values_list("number", flat=True))
    if not found and cases.exists():
        raise Conflict("every case passed; run all of them again", code="nothing_failed")
    return found or run.numbers
