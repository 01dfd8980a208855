"""A Prometheus server of a test's own; Debian's package."""

import json
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from deploy import services
from tests.servers.ports import free_port

START_S = 30
CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: targets
    static_configs: [{{targets: [{targets}]}}]
"""
RULES = """
groups:
  - name: test
    rules:
      - alert: TargetDown
        expr: up == 0
        labels: {{severity: critical}}
      - record: test:up
        expr: {rule}
"""


def program() -> str | None:
    """Return the server, installed or unpacked by `make services` below var with its tools."""
    kept = services.VAR / "prometheus" / "usr" / "bin" / "prometheus"
    return shutil.which("prometheus") or (str(kept) if kept.exists() else None)


class Prometheus:
    """Scrapes `targets` (host:port) five times a second; use as a context manager."""

    def __init__(self, folder: Path, targets: Iterable[str]) -> None:
        self._folder, self._targets = folder, list(targets)

    @staticmethod
    def installed() -> bool:
        return program() is not None

    def __enter__(self) -> Self:
        self.port = free_port()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write("sum(up)")
        words = [f"--config.file={self._config}", f"--storage.tsdb.path={self._folder / 'data'}"]
        words += [f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error"]
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen([program() or "prometheus", *words], stdout=log, stderr=log)
        self._wait_for(lambda: self.ask("query", "up") or None, "its first scrape")
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait(START_S)

    def evaluate(self, rule: str = "sum(up)") -> None:
        """Evaluate this rule from now on."""
        if self._write(rule):
            self._process.send_signal(signal.SIGHUP)

    @property
    def _config(self) -> Path:
        return self._folder / "prometheus.yml"

    def _write(self, rule: str) -> bool:
        """Write the settings down; say whether they changed. It scrapes itself, too: one target is always up."""
        targets = ", ".join(f"'{target}'" for target in [f"127.0.0.1:{self.port}", *self._targets])
        texts = {
            self._config: CONFIG.format(targets=targets),
            self._folder / "rules.yml": RULES.format(rule=rule),
        }
        before = [path.read_text() if path.exists() else "" for path in texts]
        for path, text in texts.items():
            path.write_text(text)
        return before != list(texts.values())

    def ask(self, path: str, query: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?query={query}", timeout=5) as answer:
            return json.load(answer)["data"]["result"]

    def wait_until(self, query: str) -> None:
        """Wait until a query has a result."""
        self._wait_for(lambda: self.ask("query", urllib.request.quote(query)) or None, query)

    def _wait_for(self, ask: Any, what: str) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                if ask():
                    return
            except OSError:
                pass
            assert self._process.poll() is None, (self._folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError(f"waited {START_S} s for {what}")
