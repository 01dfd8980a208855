"""Suites run by the command, in this process, against real servers on loopback."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command

from endpoints import services
from endpoints.access.principal import COMMAND
from tests.endpoints.conftest import Caller
from tests.servers.fixtures import authority, http_receiver, tls_receiver
from tests.servers.http import Answer, HttpReceiver
from tests.stack import wait_for
from tests.testing.targets import cache, database, grafana, metrics, prometheus

__all__ = ["authority", "cache", "database", "grafana", "http_receiver", "metrics", "prometheus", "tls_receiver"]

JSON = {"Content-Type": "application/json"}
FORMS = ("json", "junit", "ctrf", "html")


def answer(status: int = 200, body: Any = None, **more: Any) -> Answer:
    return Answer(status, json.dumps(body).encode(), JSON, **more)


@dataclass
class Outcome:
    """What the command ended with, and its complete report."""

    code: int
    report: dict[str, Any]
    raw: str
    junit: str
    out: str
    ctrf: str
    html: str

    @property
    def verdict(self) -> str:
        return str(self.report["verdict"])

    @property
    def cases(self) -> dict[str, dict[str, Any]]:
        return {case["case"]: case for case in self.report["cases"]}

    @property
    def verdicts(self) -> dict[str, str]:
        return {name: case["verdict"] for name, case in self.cases.items()}

    @property
    def not_passed(self) -> dict[str, str]:
        return {name: verdict for name, verdict in self.verdicts.items() if verdict != "passed"}


@pytest.fixture
def admin(transactional_db: None) -> Caller:
    return Caller(services.create_api_key("test-admin", "admin", by=COMMAND)[1])


@pytest.fixture
def orders(admin: Caller, http_receiver: HttpReceiver) -> HttpReceiver:
    """Return a receiver that is registered as system `orders`, with a credential."""
    register(admin, "orders", http_receiver.url, credential="orders-token")
    return http_receiver


def until_ended(caller: Caller, *runs: str) -> list[dict[str, Any]]:
    """Return runs once they have ended; a worker has to be there."""

    def ended() -> list[dict[str, Any]]:
        found = [dict(caller("GET", f"runs/{run}/").json) for run in runs]
        return found if all(run["state"] == "ended" for run in found) else []

    return wait_for(ended, 60, "the end of the runs")


def register(admin: Caller, slug: str, url: str, credential: str = "", **system: Any) -> None:
    parts = urlsplit(url)
    endpoint: dict[str, Any] = {"system": slug, "protocol": parts.scheme, "host": parts.hostname, "port": parts.port}
    if credential:
        made = {"name": credential, "kind": "bearer", "data": {"token": "s3cret-token-of-orders"}}
        assert admin("POST", "credentials/", made).status == 201
        endpoint["credential"] = credential
    assert admin("POST", "systems/", {"slug": slug, "name": slug, **system}).status == 201
    assert admin("POST", "endpoints/", {**endpoint, "path": parts.path or "/base"}).status == 201


@pytest.fixture
def run(tmp_path: Path, transactional_db: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs a document by `run_suite FILE` and returns what came of it."""

    def go(text: str, *args: str) -> Outcome:
        file = tmp_path / "suite.yaml"
        file.write_text(text)
        paths = [tmp_path / f"r.{ending}" for ending in ("json", "xml", "ctrf", "html")]
        for path in paths:
            path.unlink(missing_ok=True)
        given = ",".join(f"{form}={path}" for form, path in zip(FORMS, paths, strict=True))
        with pytest.raises((SystemExit, CommandError)) as ended:
            call_command("run_suite", str(file), f"--report={given}", *args)
        return outcome_of(ended.value, paths, capsys)

    return go


def outcome_of(ended: BaseException, paths: Iterable[Path], capsys: pytest.CaptureFixture[str]) -> Outcome:
    """Return what the command left behind: its exit code, the reports at `paths`, what it said."""
    found = {path.suffix: path.read_text() for path in paths if path.exists()}
    said = capsys.readouterr()
    code = getattr(ended, "code", None) or getattr(ended, "returncode", 0)
    raw, junit, ctrf, html = (found.get(ending, "") for ending in (".json", ".xml", ".ctrf", ".html"))
    return Outcome(code, json.loads(raw or "{}"), raw, junit, f"{said.out}{said.err}{ended}", ctrf, html)
