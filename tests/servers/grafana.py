"""Not Grafana: a fake of the few parts of its HTTP API that suites ask, for there is no package of the real one.

It says so itself: its health names the version `fake`. What it answers has the shape of the
answers of Grafana 11's documentation.
"""

import json
from copy import deepcopy
from typing import Any

from tests.servers.http import Answer, HttpReceiver

JSON = {"Content-Type": "application/json"}
HEALTH = {"commit": "none", "database": "ok", "version": "fake"}
DASHBOARDS = [
    {"id": 1, "uid": "deliveries", "title": "Deliveries", "type": "dash-db", "tags": ["controlplane"]},
    {"id": 2, "uid": "health", "title": "Health", "type": "dash-db", "tags": []},
]
SOURCE = {"type": "prometheus", "uid": "prom"}
DASHBOARD = {
    "dashboard": {
        "uid": "deliveries",
        "title": "Deliveries",
        "version": 3,
        "tags": ["controlplane"],
        "panels": [
            {"title": "Delivered", "type": "timeseries", "datasource": SOURCE},
            {"title": "Row", "type": "row", "panels": [{"title": "Waiting", "type": "stat", "datasource": SOURCE}]},
        ],
    },
    "meta": {"folderTitle": "Control plane"},
}
RULES = {
    "status": "success",
    "data": {
        "groups": [
            {
                "name": "delivery",
                "file": "Control plane",
                "rules": [{"name": "Backlog", "state": "inactive", "health": "ok", "type": "alerting", "labels": {}}],
            }
        ]
    },
}
PARTS = {
    "/api/health": HEALTH,
    "/api/search": DASHBOARDS,
    "/api/dashboards/uid/deliveries": DASHBOARD,
    "/api/datasources": [{"id": 1, "uid": "prom", "name": "Prometheus", "type": "prometheus"}],
    "/api/datasources/uid/prom/health": {"message": "Successfully queried the Prometheus API.", "status": "OK"},
    "/api/alertmanager/grafana/api/v2/alerts": [],
    "/api/prometheus/grafana/api/v1/rules": RULES,
}


class FakeGrafana(HttpReceiver):
    """Answers as a healthy Grafana would; `say` changes one of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Be sound again."""
        for path, body in PARTS.items():
            self.say(path, deepcopy(body))
        self.answer(Answer(404, b'{"message":"Not found"}', JSON))

    def say(self, path: str, body: Any, status: int = 200) -> None:
        self.answer_at(path, Answer(status, json.dumps(body).encode(), JSON))
