"""What is kept of an attempt: masked, and cut where it is long."""

from typing import Any

from testing.assertions.observation import Observation
from testing.models import Attempt
from testing.runner.masking import Masker
from testing.runner.results import AttemptResult

KEPT_TEXT = 1000
KEPT_BODY = 16 * 1024
KEPT_VALUE = 4 * 1024


def let_go(attempt: AttemptResult, masker: Masker) -> None:
    """Hold no more of an attempt than is stored of it: a poll would have all its answers in memory."""
    attempt.row = attempt_row(attempt, masker)
    attempt.seen = Observation(status=attempt.seen.status if isinstance(attempt.seen.status, int) else None)
    attempt.checks, attempt.captures = [], {}


def attempt_row(attempt: AttemptResult, masker: Masker) -> Attempt:
    """Return the row of an attempt, which is of no step yet."""
    seen = attempt.seen
    return Attempt(
        number=attempt.number,
        intended_at=attempt.intended_at,
        started_at=attempt.started_at,
        took_ms=round(seen.latency_ms, 3),
        phases_ms=dict(seen.phases_ms),
        verdict=attempt.verdict,
        error_class=attempt.error_class[:20],
        error=stored_text(seen.error or (attempt.reason if not attempt.checks else ""), masker),
        checks=[
            {
                "ok": check.ok,
                "subject": check.subject,
                "operators": stored_value(check.operators, masker),
                "line": check.line,
                **({} if check.ok else _wrong(check, masker)),
            }
            for check in attempt.checks
        ],
        request=stored_value(dict(seen.request), masker),
        response=_response(seen, masker),
    )


def _wrong(check: Any, masker: Masker) -> dict[str, Any]:
    return {
        "where": check.where,
        "expected": stored_value(check.expected, masker),
        "actual": stored_value(check.actual, masker),
        "detail": stored_text(check.detail, masker),
    }


def _response(seen: Observation, masker: Masker) -> dict[str, Any]:
    """Return what was seen as it is kept: masked before it is cut, or a part of a secret would stay."""
    found: dict[str, Any] = {}
    if seen.status is not None:
        found["status"] = masker.value(seen.status)
    if seen.headers is not None:
        found["headers"] = stored_value(dict(seen.headers), masker)
    if seen.body is not None:
        text = masker.text(seen.body.decode("utf-8", "replace").replace("\x00", "\ufffd"))
        found["body"] = text[:KEPT_BODY]
        found["truncated"] = seen.truncated or len(text) > KEPT_BODY
    for name, several in (("rows", seen.rows), ("messages", seen.messages), ("events", seen.events)):
        if several is not None:
            found[name] = stored_value(list(several), masker)
    if seen.close is not None:
        found["close"] = stored_value(dict(seen.close), masker)
    return found


def stored_text(text: str, masker: Masker) -> str:
    return masker.told(text).replace("\x00", "\ufffd")[:KEPT_TEXT]


def stored_value(value: Any, masker: Masker) -> Any:
    return storable(masker.value(value))


def storable(value: Any) -> Any:
    """Return a value as both databases can keep it, cut where it is long."""
    if isinstance(value, str):
        cleaned = value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
        return cleaned if len(cleaned) <= KEPT_VALUE else f"{cleaned[:KEPT_VALUE]}..."
    if isinstance(value, dict):
        return {storable(str(key)): storable(child) for key, child in list(value.items())[:200]}
    if isinstance(value, (list, tuple)):
        return [storable(child) for child in value[:200]]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return value if value is None or isinstance(value, (bool, int)) else storable(str(value))
