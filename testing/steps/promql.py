"""`promql:` a query to Prometheus, or to what speaks its API (Mimir, Thanos, VictoriaMetrics)."""

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

from testing.assertions.observation import Observation
from testing.document.kinds import DURATION_S, VALUE, Field, Kind, Shape, text
from testing.document.references import as_text
from testing.steps.asking import Question, ask, json_of, refuse
from testing.steps.base import CannotRun, StepAction, Tools

FORM = {"content-type": "application/x-www-form-urlencoded"}
CLASSES = {"timeout": "timeout", "canceled": "timeout", "internal": "server_error", "unavailable": "server_error"}


class PromqlStep(StepAction):
    """`rows` are the series: `metric`, and `value` and `at`, or of a range `values` with one pair each.

    Values are numbers; NaN passes nothing. A query that is refused is no answer: `error.code` is `bad_data`.
    """

    SHAPE: ClassVar[Kind] = Shape(
        {
            "system": Field(text(63), "The alias of the system to ask.", required=True),
            "query": Field(text(16 * 1024), "In PromQL.", required=True),
            "at": Field(VALUE, "The moment to ask about, as RFC 3339 or Unix seconds; now without."),
            "start": Field(VALUE, "The start of a range, with end and step."),
            "end": Field(VALUE, "The end of a range."),
            "step": Field(DURATION_S, "How far apart the values of a range are."),
        }
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("rows", "status", "body", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)

    async def run(self, params: Any, tools: Tools) -> Observation:
        path, form = _question(params)
        # As a form: a query may be longer than a URL.
        seen = await ask(tools, params["system"], Question("POST", path, {}, FORM, urlencode(form).encode()))
        if seen.no_answer:
            return seen
        answer = json_of(seen)
        if not isinstance(answer, dict) or answer.get("status") != "success":
            return seen if seen.no_answer else _refused(seen, answer)
        data = answer.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("result"), list):
            return _refused(seen, {})  # a yes that says nothing
        seen.rows = _rows(str(data.get("resultType")), data["result"])
        return seen


def _question(params: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    range_given = [name for name in ("start", "end", "step") if params[name] is not None]
    form = {"query": params["query"]}
    if not range_given:
        return "api/v1/query", form | ({"time": as_text(params["at"])} if params["at"] is not None else {})
    if len(range_given) < 3 or params["at"] is not None:
        raise CannotRun("a range needs start, end and step, and has no `at`")
    form |= {"start": as_text(params["start"]), "end": as_text(params["end"]), "step": f"{params['step']:g}"}
    return "api/v1/query_range", form


def _refused(seen: Observation, answer: Any) -> Observation:
    said = answer if isinstance(answer, dict) else {}
    code = str(said.get("errorType") or "not_prometheus")
    detail = str(said.get("error") or f"{code}: status {seen.status}, and no answer of Prometheus")
    return refuse(seen, CLASSES.get(code, "client_error"), code, detail[:500])


def _rows(kind: str, result: Any) -> list[dict[str, Any]]:
    if kind in ("scalar", "string"):
        value = _number(result[1]) if kind == "scalar" else result[1]
        return [{"metric": {}, "value": value, "at": result[0]}]
    return [_series(series) for series in result]


def _series(series: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"metric": series.get("metric") or {}}
    if "value" in series:
        found["at"], found["value"] = series["value"][0], _number(series["value"][1])
    if "values" in series:
        found["values"] = [[at, _number(value)] for at, value in series["values"]]
    return found


def _number(written: Any) -> float | int:
    """Return a sample's value; whole ones as such, so that 1 is 1."""
    value = float(written)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
