"""What `deploy/` gives to Prometheus and Grafana: it parses, alerts when it should, and names only what there is."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.services import VAR
from tests.servers.absence import missing
from tests.stack import ROOT, Stack

PROMETHEUS, DASHBOARD = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana" / "dashboard.json"
NAME = re.compile(r"\bcontrolplane[_:][a-z0-9_:]+")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}
# What Grafana puts in for its variables.
VARIABLES = {"$__rate_interval": "1m", "$system": ".*"}


@pytest.fixture(scope="session")
def promtool() -> str:
    """Return promtool's path, or skip by name; with CI set a missing one is a failure."""
    kept = VAR / "prometheus" / "usr" / "bin" / "promtool"
    found = shutil.which("promtool") or (str(kept) if kept.exists() else None)
    return found or missing("promtool: not installed; run `make services`")


def checked(command: list[str], **more: Any) -> str:
    """Run a check to its end, which must be good; return what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_rules_parse(promtool: str) -> None:
    assert "SUCCESS" in checked([promtool, "check", "rules", str(PROMETHEUS / "rules.yml")])


def test_the_rules_fire_when_they_should(promtool: str) -> None:
    """Each alert has a case in rules_test.yml that fires it."""
    checked([promtool, "test", "rules", "rules_test.yml"], cwd=PROMETHEUS)
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    tests = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    asked = [case for test in tests for case in test.get("alert_rule_test", ())]
    assert {case["alertname"] for case in asked} == alerts


def expressions() -> dict[str, str]:
    """Return every expression of the dashboard by its panel, with variables as Grafana fills them in."""
    found = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in VARIABLES.items():
                text = text.replace(name, value)
            found[f"{panel['title']} {target['refId']}"] = text
    return found


def test_every_expression_of_the_dashboard_parses(promtool: str, tmp_path: Path) -> None:
    """As recording rules, which promtool reads without a server."""
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(expressions().values())]
    path = tmp_path / "dashboard.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in checked([promtool, "check", "rules", str(path)])


def test_the_dashboard_is_whole() -> None:
    """Ids differ, panels do not overlap, and each asks the data source that is chosen."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def known_names(text: str) -> set[str]:
    """Return every name that a server with these metrics answers to, with samples of late or without."""
    found = set()
    for family in text_string_to_metric_families(text):
        found |= {family.name + suffix for suffix in SUFFIXES.get(family.type, ("",))}
    return found


def test_rules_and_dashboard_name_only_metrics_that_exist(stack: Stack, promtool: str) -> None:
    """Of a live server, whose metrics promtool finds no fault with."""
    stack.start("worker")
    stack.register("shop")
    stack.register("erp", "http://127.0.0.1:9")
    for _ in range(3):
        sent = stack.api("POST", "messages/", json={"source_system": "shop", "target_system": "erp", "payload": 1})
        assert sent.status_code == 202

    def measured() -> str:
        text = stack.api("GET", "/metrics").text
        return text if "controlplane_attempt_seconds_count{" in text and "controlplane_worker_tick" in text else ""

    stack.wait_for(lambda: "controlplane_disk_free_bytes{" in measured(), 60, "a first tick of the worker")
    text = measured()
    checked([promtool, "check", "metrics"], input=text)
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    every = [rule for group in rules["groups"] for rule in group["rules"]]
    recorded = {rule["record"] for rule in every if "record" in rule}
    asked = {
        name for text in [*expressions().values(), *(rule["expr"] for rule in every)] for name in NAME.findall(text)
    }

    assert asked - recorded - known_names(text) == set()
