"""CTRF, the Common Test Report Format: one test per case run, with our own verdict as its raw status.

CTRF has no word for what could not be judged. It is `failed` there: whoever counts
failures must not read as green what nobody judged.
"""

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from testing.load.figures import lines_of
from testing.reports.json_report import HERE, in_pieces
from testing.reports.telling import BAD, details, in_brief, name_of, shown_cases, step_name

SPEC_VERSION = "0.0.0"
TOOL = "controlplane"
STATUS = {
    "passed": "passed",
    "failed": "failed",
    "errored": "failed",
    "inconclusive": "failed",
    "skipped": "skipped",
    "blocked": "skipped",
    "cancelled": "skipped",
}
COUNTED = ("passed", "failed", "skipped", "pending", "other")


def ctrf_report(run: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the run as an indented CTRF document; the same run gives the same bytes."""
    start = _ms(run["started_at"] or run["created_at"])
    shown = [(STATUS[case["verdict"]], case["flaky"]) for case in in_brief(run)]
    counts = Counter(status for status, _ in shown)
    document = {
        "reportFormat": "CTRF",
        "specVersion": SPEC_VERSION,
        "reportId": str(uuid.uuid5(uuid.UUID(run["id"]), "ctrf")),
        "runId": run["id"],
        "timestamp": run["finished_at"] or run["created_at"],
        "generatedBy": TOOL,
        "results": {
            "tool": {"name": TOOL},
            "summary": {
                "tests": len(shown),
                **{status: counts[status] for status in COUNTED},
                "flaky": sum(flaky for _, flaky in shown),
                "suites": 1,
                "start": start,
                "stop": _ms(run["finished_at"]) if run["finished_at"] else start,
                "duration": round((run["took_s"] or 0) * 1000),
                "extra": {name: run[name] for name in ("verdict", "reason", "flaky", "dirty", "title")},
            },
            "tests": HERE,
            "environment": {"reportName": run["suite"], "extra": {"systems": run["systems"], **run["document"]}},
        },
    }
    return in_pieces(document, "tests", (_test(run, case, start) for case in shown_cases(run)), depth=2)


def _test(run: Mapping[str, Any], case: Mapping[str, Any], run_start: int) -> dict[str, Any]:
    start = _ms(case["started_at"]) if case["started_at"] else run_start
    test: dict[str, Any] = {
        "name": name_of(case),
        "status": STATUS[case["verdict"]],
        "rawStatus": case["verdict"],
        "duration": round(case["took_ms"]),
        "start": start,
        "stop": start + round(case["took_ms"]),
        "suite": [run["suite"]],
        "flaky": case["flaky"],
        "retries": max(0, case["rounds"] - 1),
        "steps": [_step(step) for step in case["steps"]],
        "extra": {name: case[name] for name in ("part", "dirty", "error_class", "blocked_by")},
    }
    if case.get("load"):
        test["extra"]["load"] = {name: case["load"][name] for name in ("model", "figures", "generator", "thresholds")}
        test["stdout"] = lines_of(case["load"])
    if case["verdict"] != "passed":
        test["message"] = case["reason"] or case["verdict"]
        test["trace"] = details(case)
        wrong = next((step for step in case["steps"] if step["verdict"] in BAD), None)
        test |= {"line": wrong["line"]} if wrong else {}
    if case["matrix"] or case["iteration"]:
        test["parameters"] = {**case["matrix"], **({"row": case["iteration"]} if case["iteration"] else {})}
    if earlier := [_earlier(case, number) for number in range(1, case["rounds"])]:
        test["retryAttempts"] = earlier
    return test


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    name = f"{step_name(step)}{' (cleanup)' if step['phase'] == 'cleanup' else ''}"
    extra = {"path": step["path"], "kind": step["kind"], "round": step["round"], "verdict": step["verdict"]}
    return {"name": name, "status": STATUS[step["verdict"]], "extra": {**extra, "took_ms": step["took_ms"]}}


def _earlier(case: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return one of the rounds before the last: each ended with a step that did not pass."""
    steps = [step for step in case["steps"] if step["round"] == number]
    wrong = next((step for step in steps if step["verdict"] in BAD), None)
    said = {"message": f"{step_name(wrong)}: {wrong['reason']}", "line": wrong["line"]} if wrong else {}
    took = sum(step["took_ms"] for step in steps if "." not in step["path"])  # a group's time holds its steps'
    return {"attempt": number, "status": "failed", "duration": round(took), **said}


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
