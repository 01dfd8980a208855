"""The verdict of a run, out of those of its cases: pure."""

from collections.abc import Sequence

from testing.document.suite import Gate
from testing.models import Part, Verdict
from testing.runner.results import WORST, CaseResult, RunResult

JUDGED = (Verdict.PASSED, Verdict.FAILED)


def judge_run(results: Sequence[CaseResult], gate: Gate, stopped: str = "", stopped_as: str = "") -> RunResult:
    """Return the verdict: what was not looked at is never passed."""
    cases = [result for result in results if result.part == Part.CASE]
    verdicts = {result.verdict for result in results} | ({Verdict(stopped_as)} if stopped_as else set())
    worst = next((verdict for verdict in WORST if verdict in verdicts), Verdict.INCONCLUSIVE)
    flaky, dirty = any(result.flaky for result in results), any(result.dirty for result in results)
    reason = stopped or next((_told(result) for result in results if result.verdict == worst != Verdict.PASSED), "")
    judged = sum(result.verdict in JUDGED for result in cases)
    if worst in (Verdict.PASSED, Verdict.SKIPPED):
        least = max(1, gate.min_cases)
        if judged < least:
            worst, reason = Verdict.INCONCLUSIVE, f"{judged} cases were judged, {least} are needed"
        elif flaky and gate.flaky == "fail":
            worst, reason = Verdict.FAILED, f"flaky: {', '.join(_flaky(results))}"
        elif flaky and gate.flaky == "warn":
            reason = f"flaky: {', '.join(_flaky(results))}"
    return RunResult(worst, reason, flaky, dirty)


def _told(result: CaseResult) -> str:
    return f"{result.instance.label}: {result.reason}"


def _flaky(results: Sequence[CaseResult]) -> list[str]:
    return [result.instance.label for result in results if result.flaky][:10]
