"""What went wrong in a run, so that whoever is called understands it: the first bad case, its step, what it saw."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, Max, Q

from endpoints.access.principal import Principal
from testing.models import BAD, TELLING, Attempt, CaseRun, LoadResult, Part, Phase, Run, StepRun, Verdict
from testing.services import changes, trends
from testing.services.changes import Change
from testing.services.trends import Since

MOST_STEPS = 300
MOST_SHOWN = 100
MOST_LOADS = 5
LINES_BEFORE, LINES_AFTER = 1, 14
# Of what did not pass, what is looked at first.
RANK = (Verdict.FAILED, Verdict.ERRORED, Verdict.INCONCLUSIVE, Verdict.CANCELLED, Verdict.BLOCKED, Verdict.SKIPPED)


# What an error class most likely means, for whoever reads it at night.
HINTS = {
    "dns": "Its name does not resolve from here: look at the endpoint's host, and at the name server.",
    "connect": "Nobody takes connections at its address: is it running, and are host and port of the endpoint right?",
    "tls": "The handshake failed: a certificate that ended, another name in it, or a CA that is not trusted.",
    "timeout": "It took longer than the step allows: it hangs, is overloaded, or a network on the way drops packets.",
    "protocol": "What came back is not what the protocol says: another service may listen at this port.",
    "auth": "It refused who we say we are: the credential of the endpoint may have ended, or been replaced.",
    "throttled": "It asks us to slow down: its rate limit is reached.",
    "blocked_address": "Its address is not allowed by our own egress rules: see CONTROLPLANE_EGRESS_ZONES.",
    "lost": "The worker that had it did not answer for its lease: it was killed, or the machine is overloaded.",
}
STATUS_HINTS = {
    401: HINTS["auth"],
    403: "It knows us and does not allow this: rights of the credential.",
    404: "There is nothing at this path: a route that moved, or something that a step before should have made.",
    429: HINTS["throttled"],
    500: "It failed inside: its own log, at the time of the attempt, says why.",
    502: "A proxy in front of it reached nobody behind it.",
    503: "It says that it cannot serve now: starting, overloaded, or under maintenance.",
    504: "A proxy in front of it waited too long for what is behind.",
}


@dataclass(frozen=True, slots=True)
class StepSeen:
    """A step with its first and its last attempt, which are the same when there was one."""

    row: StepRun
    first: Attempt | None = None
    last: Attempt | None = None
    attempts: int = 0

    @property
    def depth(self) -> int:
        """How deep it stands within groups."""
        return self.row.path.removesuffix(".cleanup").count(".")

    @property
    def name(self) -> str:
        return self.row.step or self.row.kind

    @property
    def hint(self) -> str:
        """Say what its end most likely means, "" when there is nothing to add."""
        if self.last is None or self.last.verdict == Verdict.PASSED:
            return ""
        status = self.last.response.get("status")
        about = STATUS_HINTS.get(status, "") if isinstance(status, int) else ""
        return HINTS.get(self.last.error_class, "") or (about if self._is_about_status else "")

    @property
    def _is_about_status(self) -> bool:
        return any(check.get("subject") == "status" for check in self.wrong_checks)

    @property
    def wrong_checks(self) -> list[dict[str, Any]]:
        """What its last attempt's assertions said against it."""
        return [check for check in self.last.checks if not check.get("ok")] if self.last else []

    @property
    def right_checks(self) -> list[dict[str, Any]]:
        return [check for check in self.last.checks if check.get("ok")] if self.last else []


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the document; `is_it` marks those that are meant."""

    number: int
    text: str
    is_it: bool = False


@dataclass(frozen=True, slots=True)
class CaseSeen:
    """One case run with its steps in the order they began; `culprit` is the step that made it end so."""

    row: CaseRun
    steps: Sequence[StepSeen] = ()
    culprit: StepSeen | None = None
    lines: Sequence[Line] = ()
    load: LoadResult | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The case that is to be looked at first, since when it fails, and what was different when it began to."""

    case: CaseSeen
    since: Since
    changes: Sequence[Change] = ()


@dataclass(frozen=True, slots=True)
class Others:
    """What else did not pass, up to `MOST_SHOWN`; those that were only blocked are counted by what blocked them."""

    rows: Sequence[CaseRun] = ()
    alike: Sequence[CaseRun] = ()  # those that ended for the very reason of the one shown
    blocked: Sequence[tuple[str, int]] = field(default=())
    more: bool = False


def first_failure(run: Run, principal: Principal) -> Failure | None:
    """Return what is to be looked at first: what failed before what errored, the setup before cases, then by time."""
    row = first_bad(run)
    if row is None:
        return None
    return explained(row, run, principal)


def explained(row: CaseRun, run: Run, principal: Principal) -> Failure:
    """Return a case run with since when it fails, and what was different when it began to."""
    since = trends.since(row, run, principal) if row.is_bad else Since()
    found: list[Change] = []
    if since.first is not None and since.last_passed is not None:
        found = changes.between(since.last_passed, since.first, principal)
    return Failure(seen(row, run), since, found)


def first_bad(run: Run) -> CaseRun | None:
    """Return the case run to be looked at first, None when all is well."""
    rows = CaseRun.objects.filter(TELLING, run=run)
    setup = rows.filter(part=Part.SETUP, verdict__in=BAD).first()
    if setup is not None:
        return setup
    for verdict in RANK[:4]:
        found = rows.filter(verdict=verdict).order_by("started_at", "number").first()
        if found is not None:
            return found
    return None


def others(run: Run, shown: CaseRun | None) -> Others:
    """Return what else did not pass, or only passed by a retry, or left dirt."""
    rows = CaseRun.objects.filter(TELLING, run=run)
    if shown is not None:
        rows = rows.exclude(pk=shown.pk)
    blocked = rows.filter(verdict=Verdict.BLOCKED).order_by().values_list("blocked_by").annotate(count=Count("pk"))
    found = list(rows.exclude(verdict=Verdict.BLOCKED).order_by("number")[: MOST_SHOWN + 1])
    found.sort(key=lambda row: (RANK.index(Verdict(row.verdict)) if row.verdict in RANK else len(RANK), row.number))
    by_most = sorted(blocked, key=lambda pair: (-pair[1], pair[0]))[:MOST_SHOWN]
    alike = [row for row in found[:MOST_SHOWN] if shown is not None and _is_alike(row, shown)]
    rest = [row for row in found[:MOST_SHOWN] if row not in alike]
    return Others(rest, alike, by_most, len(found) > MOST_SHOWN)


def _is_alike(row: CaseRun, shown: CaseRun) -> bool:
    """Say whether both ended for one reason, whatever their steps are called."""
    told, others = (case.reason.partition(": ")[2] for case in (row, shown))
    return bool(told) and told == others and row.verdict == shown.verdict


def seen(row: CaseRun, run: Run) -> CaseSeen:
    """Return a case run with its steps, and of each its first and its last attempt."""
    steps = _steps(row)
    culprit = _culprit(row, steps)
    lines = excerpt(run.document.text, culprit) if culprit is not None else ()
    return CaseSeen(row, steps, culprit, lines, LoadResult.objects.filter(case_run=row).defer("histograms").first())


def loads(run: Run) -> list[LoadResult]:
    """Return the first loads of a run, as they are drawn."""
    rows = LoadResult.objects.filter(case_run__run=run).select_related("case_run").defer("histograms")
    return list(rows.order_by("case_run__number")[:MOST_LOADS])


def excerpt(text: str, step: StepSeen) -> list[Line]:
    """Return the lines of a document around a step, the assertions that were wrong marked."""
    lines = text.splitlines()
    at = step.row.line
    if not 1 <= at <= len(lines):
        return []
    wrong = {check.get("line") or at for check in step.wrong_checks} or {at}
    last = min(len(lines), max(at + LINES_AFTER, *(number + 1 for number in wrong)))
    indent = _indent(lines[at - 1])
    for number in range(at + 1, last + 1):  # the next step begins where something stands as far to the left
        text_there = lines[number - 1]
        if text_there.strip() and _indent(text_there) <= indent and number > max(wrong):
            last = number - 1
            break
    return [Line(number, lines[number - 1], number in wrong) for number in range(max(1, at - LINES_BEFORE), last + 1)]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _steps(row: CaseRun) -> list[StepSeen]:
    rows = list(StepRun.objects.filter(case_run=row).order_by("number")[:MOST_STEPS])
    ids = [step.pk for step in rows]
    # The number of the last is how many there were: of a poll not all are kept.
    counts = dict(
        Attempt.objects.filter(step_run__in=ids).order_by().values_list("step_run").annotate(last=Max("number"))
    )
    ends = Q(number=1)
    for step, last in counts.items():
        if last > 1:
            ends |= Q(step_run=step, number=last)
    tries: dict[Any, dict[int, Attempt]] = {}
    for attempt in Attempt.objects.filter(ends, step_run__in=ids):
        tries.setdefault(attempt.step_run_id, {})[attempt.number] = attempt
    return [_step(step, tries.get(step.pk, {}), counts.get(step.pk, 0)) for step in rows]


def _step(row: StepRun, tries: dict[int, Attempt], last: int) -> StepSeen:
    return StepSeen(row, tries.get(1), tries.get(last), last)


def _culprit(case: CaseRun, steps: Sequence[StepSeen]) -> StepSeen | None:
    """Return the first step of the last round that did not pass and has none within it that did not."""
    wrong = [
        step
        for step in steps
        if step.row.phase == Phase.STEP
        and step.row.round == case.rounds
        and step.row.verdict not in (Verdict.PASSED, Verdict.SKIPPED)
    ]
    inner = [step for step in wrong if not any(other.row.path.startswith(f"{step.row.path}.") for other in wrong)]
    bad = [step for step in inner if step.row.verdict in BAD]
    return next(iter(bad or inner), None)
