"""What all reports tell alike: what a case is called, which step went wrong, and what it said."""

from collections.abc import Iterator, Mapping
from typing import Any

from testing.reports.shown import literal

Found = Mapping[str, Any]

BAD = ("failed", "errored", "inconclusive")
SHOWN_BODY = 2000


def shown_cases(run: Found) -> Iterator[Found]:
    """Yield the cases; setup and teardown stand among them only when something was wrong with them."""
    return filter(_is_shown, run["cases"])


def in_brief(run: Found) -> Iterator[Found]:
    """Yield the same without their steps, where cases are read piece by piece: to count them beforehand."""
    cases = run["cases"]
    return filter(_is_shown, cases if isinstance(cases, list) else cases.in_brief())


def _is_shown(case: Found) -> bool:
    return bool(case["part"] == "case" or case["verdict"] != "passed")


def name_of(case: Found) -> str:
    """Return a case run's name with what tells it from its sisters."""
    parts = [f"{name}={value}" for name, value in case["matrix"].items()]
    parts += [f"row {case['iteration']}"] if case["iteration"] else []
    return f"{case['case']} [{', '.join(parts)}]" if parts else str(case["case"])


def wrong_step(case: Found) -> Found | None:
    """Return the step that decided, of the last round: the innermost of a group; a cleanup never decides."""
    steps = [step for step in case["steps"] if step["phase"] == "step" and step["round"] == case["rounds"]]
    wrong = [step for step in steps if step["verdict"] in BAD]
    wrong = wrong or [step for step in steps if step["verdict"] == "cancelled" and case["verdict"] != "passed"]
    return next((step for step in wrong if not _has_inner(step, wrong)), None)


def _has_inner(step: Found, others: list[Found]) -> bool:
    return any(other["path"].startswith(f"{step['path']}.") for other in others)


def step_name(step: Found) -> str:
    """Return what a person calls a step: its id, or its kind and where it stands."""
    return str(step["id"] or (f"{step['kind']} in line {step['line']}" if step["line"] else step["kind"]))


def details(case: Found) -> str:
    """Return what the last attempt of what went wrong said: expected, actual, where, request and answer."""
    wrong = wrong_step(case)
    if wrong is None or not wrong["attempts"]:
        return str(case["reason"])
    last = wrong["attempts"][-1]
    lines = [f"step {wrong['id'] or wrong['path']} ({wrong['kind']}, line {wrong['line']})"]
    lines += [check["detail"] for check in last["checks"] if not check["ok"]] or [last["error"] or wrong["reason"]]
    if last["request"].get("url"):
        lines.append(f"{last['request'].get('method', '')} {last['request']['url']}")
    if "status" in last["response"]:
        lines.append(f"answer: {last['response']['status']} {last['response'].get('body', '')[:SHOWN_BODY]}")
    return "\n".join(lines)


def expected_of(check: Found) -> str:
    """Return what the assertion wanted: its operator with its operand, unless it is plain equality."""
    operators = check.get("operators")
    if isinstance(operators, Mapping) and len(operators) == 1:
        (operator, operand) = next(iter(operators.items()))
        below = check.get("where") != check["subject"]
        if below:
            return literal(check.get("expected"))
        if operator == "eq":
            return literal(operand)
        return f"{operator.replace('_', ' ')} {literal(operand)}"
    return literal(operators)
