"""The `metrics` pack against a real Prometheus and a fake that says it is no Grafana, sound and broken."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.endpoints.conftest import Caller
from tests.packs.harness import Mutation, RunPack, hold_to_table
from tests.servers.absence import not_installed
from tests.servers.grafana import DASHBOARD, RULES, FakeGrafana
from tests.servers.http import Answer, HttpReceiver, Received
from tests.servers.ports import free_port
from tests.servers.prometheus import Prometheus
from tests.testing.targets import register_http

PROMETHEUS = (
    *("prometheus-is-ready", "targets-are-up", "series-are-fresh", "has-its-series", "answers-queries"),
    *("refuses-nonsense", "rules-are-well", "no-alert-fires"),
)
GRAFANA = (
    *("grafana-is-well", "has-its-dashboards", "dashboard-has-its-panels", "data-source-answers"),
    *("grafana-rules-are-well", "no-grafana-alert-fires"),
)
SERIES = ("has-its-series", "series-are-fresh", "answers-queries")
LATE_S = 295  # Prometheus looks back 300: what is late is still seen, and soon no longer
PAGE = b"# TYPE app_orders counter\napp_orders 7\n"
ALERT = [{"labels": {"alertname": "Backlog"}, "status": {"state": "active"}}]


def rules(**changes: Any) -> dict[str, Any]:
    (group,) = RULES["data"]["groups"]
    return {"status": "success", "data": {"groups": [{**group, "rules": [{**group["rules"][0], **changes}]}]}}


MUTATIONS = (
    Mutation("prometheus-down", PROMETHEUS, "no answer: connect"),
    Mutation("target-down", ("targets-are-up", *SERIES, "no-alert-fires"), "rows"),
    Mutation("series-gone", SERIES, "rows.0.value: expected"),
    Mutation("rule-broken", ("rules-are-well",), "got 'err'"),
    Mutation("says-yes", PROMETHEUS[1:], "not_prometheus"),
    Mutation("grafana-down", GRAFANA, "no answer: connect"),
    Mutation("grafana-database", ("grafana-is-well",), "got 'failing'"),
    Mutation("dashboards-gone", ("has-its-dashboards", "dashboard-has-its-panels"), "Dashboard not found"),
    Mutation("other-source", ("dashboard-has-its-panels",), "datasources"),
    Mutation("source-away", ("data-source-answers",), "no route"),
    Mutation("grafana-rule-broken", ("grafana-rules-are-well",), "got 'error'"),
    Mutation("grafana-rule-fires", ("grafana-rules-are-well",), "firing"),
    Mutation("grafana-alert", ("no-grafana-alert-fires",), "rows"),
    Mutation("samples-late", ("series-are-fresh",), "rows.0.value"),
)


class Metrics:
    """A Prometheus with a target to scrape, and the fake; every switch starts from both of them sound."""

    def __init__(self, admin: Caller, prometheus: Prometheus, app: HttpReceiver, grafana: FakeGrafana) -> None:
        self._admin, self._prometheus, self._app, self._grafana = admin, prometheus, app, grafana
        self._yes = HttpReceiver().start()
        self._dead = free_port()
        self._endpoints = {row["system"]: row["id"] for row in admin("GET", "endpoints/").json["results"]}

    def break_by(self, switch: str) -> None:
        self._app.answer(Answer(200, PAGE, {"Content-Type": "text/plain"}))
        self._point("prometheus", self._prometheus.port)
        self._point("grafana", self._grafana.port)
        self._grafana.reset()
        self._prometheus.evaluate()
        self._prometheus.wait_until("count(up == 1) == 2 and on() sum(app_orders) == 7")
        self._prometheus.wait_until("absent(ALERTS)")
        BREAKS[switch](self)

    def _point(self, slug: str, port: int) -> None:
        assert self._admin("PATCH", f"endpoints/{self._endpoints[slug]}/", {"port": port}).status == 200

    def target_down(self) -> None:
        self._app.answer(503)
        self._prometheus.wait_until('ALERTS{alertstate="firing"} and on() count(up == 0) and on() absent(app_orders)')

    def samples_late(self) -> None:
        def late(_: Received) -> Answer:
            body = f'app_orders{{part="late"}} 7 {int((time.time() - LATE_S) * 1000)}\n'
            return Answer(200, body.encode(), {"Content-Type": "text/plain"})

        self._app.answer(late)
        self._prometheus.wait_until("min(time() - timestamp(app_orders)) > 60")

    def series_gone(self) -> None:
        self._app.answer(Answer(200, b"other 1\n", {"Content-Type": "text/plain"}))
        self._prometheus.wait_until("absent(app_orders) and on() other")

    def rule_broken(self) -> None:
        self._prometheus.evaluate("up * on() group_left() prometheus_build_info * on() up")
        self._prometheus.wait_until("prometheus_rule_evaluation_failures_total > 0")

    def says_yes(self) -> None:
        self._yes.answer(Answer(200, b'{"status": "success"}', {"Content-Type": "application/json"}))
        self._point("prometheus", self._yes.port)

    def dashboards_gone(self) -> None:
        self._grafana.say("/api/search", [])
        self._grafana.say("/api/dashboards/uid/deliveries", {"message": "Dashboard not found"}, 404)

    def other_source(self) -> None:
        panels = [{"title": "Delivered", "type": "stat", "datasource": {"type": "loki", "uid": "logs"}}]
        dashboard = {**DASHBOARD["dashboard"], "panels": panels}
        self._grafana.say("/api/dashboards/uid/deliveries", {**DASHBOARD, "dashboard": dashboard})

    def say(self, path: str, body: Any, status: int = 200) -> None:
        self._grafana.say(path, body, status)

    def close(self) -> None:
        self._yes.stop()


BREAKS: dict[str, Callable[[Metrics], None]] = {
    "": lambda metrics: None,
    "prometheus-down": lambda metrics: metrics._point("prometheus", metrics._dead),
    "target-down": Metrics.target_down,
    "samples-late": Metrics.samples_late,
    "series-gone": Metrics.series_gone,
    "rule-broken": Metrics.rule_broken,
    "says-yes": Metrics.says_yes,
    "grafana-down": lambda metrics: metrics._point("grafana", metrics._dead),
    "grafana-database": lambda metrics: metrics.say("/api/health", {"database": "failing", "version": "fake"}),
    "dashboards-gone": Metrics.dashboards_gone,
    "other-source": Metrics.other_source,
    "source-away": lambda metrics: metrics.say("/api/datasources/uid/prom/health", {"message": "no route"}, 400),
    "grafana-rule-broken": lambda metrics: metrics.say("/api/prometheus/grafana/api/v1/rules", rules(health="error")),
    "grafana-rule-fires": lambda metrics: metrics.say("/api/prometheus/grafana/api/v1/rules", rules(state="firing")),
    "grafana-alert": lambda metrics: metrics.say("/api/alertmanager/grafana/api/v2/alerts", ALERT),
}


@pytest.fixture
def metrics(admin: Caller, tmp_path: Path) -> Iterator[Metrics]:
    if not Prometheus.installed():
        not_installed("prometheus", "prometheus")
    with HttpReceiver() as app, FakeGrafana() as grafana:
        app.is_keeping = False
        app.answer(Answer(200, PAGE, {"Content-Type": "text/plain"}))
        with Prometheus(tmp_path / "prometheus", [f"127.0.0.1:{app.port}"]) as prometheus:
            register_http(admin, "prometheus", prometheus.port, "metrics")
            register_http(admin, "grafana", grafana.port, "metrics")
            made = Metrics(admin, prometheus, app, grafana)
            yield made
            made.close()


def test_the_pack_fails_in_the_right_case(run_pack: RunPack, metrics: Metrics) -> None:
    """Against sound servers it passes; broken in one way, exactly the cases that are there to see it fail."""
    switches = {name: "" for name in BREAKS if name}
    given = ("--var=series=app_orders", "--var=query=app_orders > 0", "--var=min_targets=2", "--var=fresh=60")
    hold_to_table(run_pack, "metrics", metrics, switches, MUTATIONS, *given, "--var=quick=10s")
