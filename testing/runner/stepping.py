"""One step: its attempts until the assertions hold or the poll ends, each under its timeout and judged."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from endpoints.transports.base import ErrorClass
from testing.assertions.judge import Check, judge
from testing.assertions.observation import Missing, Observation
from testing.assertions.subjects import root_of
from testing.document.nodes import Faults, placed
from testing.document.references import Scope, Unresolved, fill
from testing.document.suite import Step
from testing.models import Phase, Verdict
from testing.runner.results import AttemptResult, StepResult
from testing.steps import step_class
from testing.steps.base import CannotRun, StepAction, Tools

log = structlog.get_logger(__name__)

FIRST_KEPT, LAST_KEPT = 5, 15  # of the attempts of a poll, which may be a hundred thousand
GONE = frozenset({404, 410})  # what is not there needs no cleaning up


class InnerFailed(Exception):
    """A step within a step did not pass; its own result says why."""

    def __init__(self, inner: StepResult) -> None:
        super().__init__(inner.reason)
        self.inner = inner


class Surroundings(Protocol):
    """What a step needs of the case it runs in."""

    @property
    def tools(self) -> Tools: ...

    @property
    def allow_production(self) -> bool: ...

    def scope(self) -> Scope: ...

    def capture(self, found: dict[str, Any]) -> None: ...

    def let_go(self, attempt: AttemptResult) -> None: ...


async def run_step(step: Step, around: Surroundings, result: StepResult) -> StepResult:
    """Run a step into `result`, which holds what there is so far even when this is cancelled."""
    started = time.perf_counter()
    until = started + step.poll.within_s if step.poll else 0.0
    intended = datetime.now(UTC)
    try:
        while True:
            result.tries += 1
            attempt = AttemptResult(result.tries, intended, datetime.now(UTC), Verdict.CANCELLED)
            result.attempts.append(attempt)
            await _attempt(step, around, attempt, result.phase)
            result.dirty |= attempt.seen.dirty
            if step.poll is None or attempt.verdict != Verdict.FAILED or time.perf_counter() >= until:
                break
            around.let_go(attempt)
            if len(result.attempts) == FIRST_KEPT + LAST_KEPT:
                del result.attempts[FIRST_KEPT]
            await asyncio.sleep(min(step.poll.every_s, max(0.0, until - time.perf_counter())))
            intended = datetime.now(UTC)
        result.verdict, result.reason = attempt.verdict, attempt.reason
        if attempt.verdict == Verdict.FAILED and step.poll:
            result.reason += f" (asked {result.tries} times within {step.poll.within_s:g} s)"
        around.capture(attempt.captures)
    except asyncio.CancelledError as exc:
        result.verdict, result.reason = Verdict.CANCELLED, str(exc) or "cancelled while it ran"
        raise
    finally:
        result.took_ms = (time.perf_counter() - started) * 1000
    return result


async def _attempt(step: Step, around: Surroundings, attempt: AttemptResult, phase: Phase) -> None:
    """Do it once, and judge what was seen."""
    action = action_of(step.kind)
    try:
        params = step.ready if step.ready is not None else read_params(step, action, around.scope())
        await _ask_leave(action, params, around)
        attempt.seen = await _within(step, action, params, around.tools)
        attempt.verdict = Verdict.PASSED
        judge_attempt(step, attempt, around.scope(), phase)
    except CannotRun as exc:
        _cannot(attempt, exc.detail, exc.error_class)
    except (Unresolved, ValueError) as exc:
        _cannot(attempt, str(exc), "")
    except InnerFailed as exc:
        attempt.verdict, attempt.reason = exc.inner.verdict, f"{exc.inner.name}: {exc.inner.reason}"
        attempt.reasons, attempt.error_class = exc.inner.reasons, exc.inner.error_class
        attempt.broke = exc.inner.broke
    except Exception as exc:  # a bug costs one step: the cleanups and the other cases go on
        log.exception("step_broke", kind=step.kind)
        break_off(attempt, exc)


def break_off(attempt: AttemptResult, exc: Exception) -> None:
    """Say of an attempt that a bug ended it: it could not be judged."""
    attempt.broke = True
    _cannot(attempt, f"internal: {type(exc).__name__}", ErrorClass.INTERNAL.value)


def _cannot(attempt: AttemptResult, detail: str, error_class: str) -> None:
    attempt.verdict, attempt.reason, attempt.error_class = Verdict.ERRORED, detail, error_class
    attempt.reasons = frozenset({error_class} if error_class else ())


_ACTIONS: dict[str, StepAction] = {}


def action_of(kind: str) -> StepAction:
    if kind not in _ACTIONS:
        _ACTIONS[kind] = step_class(kind)()
    return _ACTIONS[kind]


def read_params(step: Step, action: StepAction, scope: Scope) -> Any:
    """Return the params with their references read, judged as if they had been written so."""
    faults = Faults()
    ready = action.SHAPE.read(placed(fill(step.params, scope), step.mark), step.kind, faults)
    if faults.found:
        raise CannotRun("; ".join(f"{fault.place}: {fault.detail}" for fault in faults.found))
    return ready


async def _ask_leave(action: StepAction, params: Any, around: Surroundings) -> None:
    """Raise CannotRun for what would change something in production without leave, or could."""
    if not action.names_all(params):
        await around.tools.ask_leave_unnamed()
    if around.allow_production or not action.writes(params):
        return
    for alias in action.aliases(params):
        if (party := around.tools.party(alias)).is_production:
            raise CannotRun(f"'{party.slug}' is a production system; a step that writes there needs --allow-production")


async def _within(step: Step, action: StepAction, params: Any, tools: Tools) -> Observation:
    if not action.SUBJECTS:
        return await action.run(params, tools)  # a wait, or steps that have timeouts of their own
    started = time.perf_counter()
    try:
        async with asyncio.timeout(step.timeout_s):
            return await action.run(params, tools)
    except TimeoutError:
        took = (time.perf_counter() - started) * 1000
        told = f"no outcome within {step.timeout_s:g} s"
        return Observation(latency_ms=took, error_class=ErrorClass.TIMEOUT.value, error=told, no_answer=True)


def judge_attempt(step: Step, attempt: AttemptResult, scope: Scope, phase: Phase) -> None:
    """Give the verdict: of what did not answer only assertions about what ended it can speak."""
    seen = attempt.seen
    attempt.error_class = seen.error_class
    attempt.checks = [judge(assertion, seen, scope) for assertion in step.assertions]
    wrong = next((check for check in attempt.checks if not check.ok), None)
    if seen.no_answer and not any(root_of(assertion.subject) in seen.speaks for assertion in step.assertions):
        attempt.verdict = Verdict.ERRORED if step.asserts_nothing else Verdict.FAILED
        attempt.reason = f"{'refused' if seen.error_code else 'no answer'}: {seen.error_class}, {seen.error}"
    elif wrong is not None:
        attempt.verdict, attempt.reason = Verdict.FAILED, wrong.detail
    elif phase == Phase.CLEANUP and not step.assertions and not step.asserts_nothing:
        _judge_cleanup(attempt)
    if attempt.verdict == Verdict.PASSED:
        _capture(step, attempt)
    if attempt.verdict != Verdict.PASSED:
        attempt.reasons = _reasons(seen, wrong)


def _judge_cleanup(attempt: AttemptResult) -> None:
    """A cleanup that says nothing else must not be refused."""
    status = attempt.seen.status
    if isinstance(status, int) and status >= 400 and status not in GONE:
        attempt.verdict, attempt.reason = Verdict.FAILED, f"status {status}"


def _capture(step: Step, attempt: AttemptResult) -> None:
    for name, (subject, read) in step.captures.items():
        found = read(attempt.seen)
        if isinstance(found, Missing):
            attempt.verdict = Verdict.FAILED
            attempt.reason = f"cannot capture {name} from {subject}: {found.said}"
            attempt.checks.append(Check(False, subject, {"capture": name}, subject, "something", None, attempt.reason))
            return
        attempt.captures[name] = found


def _reasons(seen: Observation, wrong: Check | None) -> frozenset[str]:
    """Return what a retry may be asked to cover."""
    found = {seen.error_class} if seen.error_class else set()
    if seen.status == 429:
        found.add("throttled")
    elif isinstance(seen.status, int) and seen.status >= 400:
        found.add("server_error" if seen.status >= 500 else "client_error")
    if wrong is not None and not seen.no_answer:
        found.add("assertion")
    return frozenset(found)
