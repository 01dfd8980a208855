"""`grafana:` what a Grafana says of itself: its health, dashboards, data sources, alerts and rules."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from testing.assertions.observation import Observation
from testing.document.kinds import Field, Kind, Shape, choice, text
from testing.steps.asking import Question, ask, json_of, refuse
from testing.steps.base import CannotRun, StepAction, Tools

Read = Callable[[Any], list[Any]]
LISTED = 5000


def _items(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise TypeError("a list was asked for")
    return answer


def _one(answer: Any) -> list[Any]:
    if not isinstance(answer, dict):
        raise TypeError("an object was asked for")
    return [answer]


def _dashboard(answer: Any) -> list[Any]:
    """Return one row: the dashboard's title, uid, version and folder, its panels and what data sources they name."""
    found, meta = answer["dashboard"], answer.get("meta") or {}
    panels = [inner for panel in found.get("panels") or [] for inner in (panel, *(panel.get("panels") or []))]
    sources = [(panel.get("datasource") or {}) for panel in panels]
    return [
        {
            **{name: found.get(name) for name in ("uid", "title", "version", "tags")},
            "folder": meta.get("folderTitle"),
            "panels": [{"title": panel.get("title"), "type": panel.get("type")} for panel in panels],
            "datasources": sorted(
                {source["uid"] for source in sources if isinstance(source, dict) and "uid" in source}
            ),
        }
    ]


def _rules(answer: Any) -> list[Any]:
    """Return one row for each rule: its name, group, state (inactive, pending, firing) and health."""
    groups = answer["data"]["groups"]
    return [
        {"group": group.get("name"), "folder": group.get("file")}
        | {name: rule.get(name) for name in ("name", "state", "health", "type", "labels", "lastError")}
        for group in groups
        for rule in group.get("rules") or []
    ]


# What is asked for, where it is, what its path needs, and how rows are made of it.
ASKED: dict[str, tuple[str, bool, Read]] = {
    "health": ("api/health", False, _one),
    "dashboards": ("api/search", False, _items),
    "dashboard": ("api/dashboards/uid/{uid}", True, _dashboard),
    "datasources": ("api/datasources", False, _items),
    "datasource_health": ("api/datasources/uid/{uid}/health", True, _one),
    "alerts": ("api/alertmanager/grafana/api/v2/alerts", False, _items),
    "rules": ("api/prometheus/grafana/api/v1/rules", False, _rules),
}


class GrafanaStep(StepAction):
    """`rows` are what was asked for: one each, of `health` and `dashboard` one. A status from 400 is a refusal."""

    SHAPE: ClassVar[Kind] = Shape(
        {
            "system": Field(text(63), "The alias of the system to ask.", required=True),
            "ask": Field(choice(*ASKED, fixed=False), "What to ask for.", required=True),
            "uid": Field(text(100), "Of the dashboard or data source."),
            "search": Field(text(200), "Dashboards with this in their title."),
            "tag": Field(text(200), "Dashboards with this tag."),
        }
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("rows", "status", "body", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)

    async def run(self, params: Any, tools: Tools) -> Observation:
        path, needs_uid, read = ASKED[params["ask"]]
        if needs_uid and not params["uid"]:
            raise CannotRun(f"{params['ask']} needs the uid of which")
        path = path.format(uid=quote(params["uid"] or "", safe=""))
        headers = {"accept": "application/json"}
        seen = await ask(tools, params["system"], Question("GET", path, _query(params), headers))
        if seen.no_answer:
            return seen
        answer = json_of(seen)
        if isinstance(seen.status, int) and seen.status >= 400:
            return _refused(seen, answer)
        if not seen.no_answer:
            try:
                seen.rows = read(answer)
            except (AttributeError, TypeError, KeyError) as exc:
                refuse(seen, "protocol", "not_grafana", f"this is no answer of Grafana: {exc}")
        return seen


def _query(params: Mapping[str, Any]) -> dict[str, str]:
    if params["ask"] != "dashboards":
        return {}
    found = {"type": "dash-db", "limit": str(LISTED)}
    return found | {name: params[key] for name, key in (("query", "search"), ("tag", "tag")) if params[key]}


def _refused(seen: Observation, answer: Any) -> Observation:
    said = answer.get("message") if isinstance(answer, dict) else None
    status = int(seen.status)
    error_class = "auth" if status in (401, 403) else "server_error" if status >= 500 else "client_error"
    return refuse(seen, error_class, str(status), str(said or f"status {status}")[:500])
