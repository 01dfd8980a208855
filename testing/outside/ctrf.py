"""CTRF, the Common Test Report Format: what its tests say; what it may hold besides is passed over."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any

from endpoints.edge import strict_json
from endpoints.errors import Malformed
from testing.models import Verdict
from testing.outside.shape import (
    KEPT_TEXT,
    MAX_CASES,
    MAX_EARLIER,
    MAX_JSON_BYTES,
    NotRead,
    NotResults,
    Result,
    Results,
    Try,
    duration_ms,
    too_large,
    too_many,
    too_many_tries,
)

STATUS = {
    "passed": Verdict.PASSED,
    "failed": Verdict.FAILED,
    "skipped": Verdict.SKIPPED,
    "pending": Verdict.SKIPPED,
    "other": Verdict.INCONCLUSIVE,
}
MOST_PARTS, MOST_VALUES = 500_000, 2_000_000  # objects and lists, and what they hold
EARLIEST_MS, LATEST_MS = 0, 253_370_764_800_000  # years that a time can have


def read_ctrf(file: IO[bytes]) -> Results:
    """Return what the report says; raises TooLarge, NotRead, or NotResults with the place of what does not fit.

    JSON is read as a whole, so what it may come to in memory is bounded by what it is made of.
    """
    body = file.read(MAX_JSON_BYTES + 1)
    if len(body) > MAX_JSON_BYTES:
        raise too_large(MAX_JSON_BYTES, "CTRF report")
    if body.count(b"{") + body.count(b"[") > MOST_PARTS or body.count(b",") > MOST_VALUES:
        raise too_many()
    try:
        document = strict_json.parse(body)
    except Malformed as exc:
        raise NotRead(f"the report is not JSON that we read: {exc.detail}") from exc
    results = _field(document, "results", dict, "")
    summary = _optional(results, "summary", dict, "results") or {}
    tests = _field(results, "tests", list, "results")
    if len(tests) > MAX_CASES:
        raise too_many()
    tries = (test.get("retryAttempts") for test in tests if isinstance(test, Mapping))
    if sum(len(found) for found in tries if isinstance(found, list)) > MAX_EARLIER:
        raise too_many_tries()
    tool = _optional(results, "tool", dict, "results") or {}
    environment = _optional(results, "environment", dict, "results") or {}
    named = _text(environment, "reportName")
    title = named or _text(environment, "appName") or _text(tool, "name") or "CTRF"
    start, stop = _number(summary.get("start")), _number(summary.get("stop"))
    return Results(
        title,
        [_result(test, f"results.tests.{place}", {named, title}) for place, test in enumerate(tests)],
        _at(start),
        duration_ms(_number(summary.get("duration")) or stop - start),
    )


def _result(test: Any, place: str, own: set[Any]) -> Result:
    if not isinstance(test, Mapping):
        raise NotResults(f"{place}: must be an object")
    name, verdict = _field(test, "name", str, place), _verdict(test, place)
    suites = test.get("suite")
    above = [suites] if isinstance(suites, str) else _texts(suites)
    took = duration_ms(_number(test.get("duration")))
    earlier = _optional(test, "retryAttempts", list, place) or []
    tries = [_earlier(found, f"{place}.retryAttempts.{number}") for number, found in enumerate(earlier)]
    return Result(
        " > ".join([*(part for part in above if part not in own), name]),
        verdict,
        [*tries, Try(verdict, _text(test, "message"), _said(test), took)],
        took,
        _at(_number(test.get("start"))),
        is_flaky=test.get("flaky") is True and verdict == Verdict.PASSED,
        line=int(line) if 0 < (line := _number(test.get("line"))) < 10**8 else 0,
    )


def _earlier(found: Any, place: str) -> Try:
    if not isinstance(found, Mapping):
        raise NotResults(f"{place}: must be an object")
    return Try(
        _verdict(found, place), _text(found, "message"), _said(found), duration_ms(_number(found.get("duration")))
    )


def _verdict(test: Mapping[str, Any], place: str) -> Verdict:
    """Return the verdict: one of ours where the raw status is one that fits, else what the status stands for."""
    status = _field(test, "status", str, place)
    if status not in STATUS:
        raise NotResults(f"{place}.status: '{status[:40]}' is none of {', '.join(STATUS)}")
    raw = test.get("rawStatus")
    if isinstance(raw, str) and raw in Verdict.values and (raw == "passed") == (status == "passed"):
        return Verdict(raw)
    return STATUS[status]


def _said(test: Mapping[str, Any]) -> str:
    """Return its trace and output as one text."""
    lines = [_text(test, "trace"), _text(test, "snippet")]
    for name in ("stdout", "stderr"):
        lines += _texts(test.get(name))
    return "\n".join(filter(None, lines))[:KEPT_TEXT]


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _field(found: Any, name: str, kind: type, place: str) -> Any:
    value = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(value, kind) or value == "":
        at = f"{place}.{name}" if place else name
        raise NotResults(f"{at}: must be {WORDS[kind]}{'' if value is None else f', not {str(value)[:40]!r}'}")
    return value


def _optional(found: Mapping[str, Any], name: str, kind: type, place: str) -> Any:
    return _field(found, name, kind, place) if found.get(name) is not None else None


WORDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def _at(ms: float) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, UTC) if EARLIEST_MS < ms < LATEST_MS else None
