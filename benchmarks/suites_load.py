"""How much load a suite makes beside Locust: the same request, the same users, as many processes, taking turns.

`python -m benchmarks.suites_load [--seconds 8] [--repeat 3] [--processes 1] [--users 64]` prints JSON.
Each side is started as its users start it: `controlplane run_suite FILE`, and `locust --headless` with
FastHttpUser. The rates are what each says of itself, after a warm-up of ours.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from benchmarks.payload import BODY
from tests.servers.nginx import Nginx
from tests.stack import Databases, Stack

SUITE = """
suite: bench
type: performance
systems: {{api: target}}
cases:
  - case: post
    load:
      model: closed
      stages: [{{for: {seconds}s, at: {users}}}]
      warmup: 500ms
    steps:
      - http: {{system: api, method: POST, path: /in, headers: {{content-type: application/json}}, body: '{body}'}}
        assert: [{{status: {{eq: 204}}}}]
"""


class Beside:
    """Measures both against one receiver; `measure` returns (ours, theirs) in requests a second."""

    def __init__(self, root: Path, stack: Stack, receiver: Nginx, options: argparse.Namespace) -> None:
        self._root, self._stack, self._receiver, self._options = root, stack, receiver, options
        self._suite = root / "bench.yaml"
        users = options.users // options.processes
        self._suite.write_text(SUITE.format(seconds=options.seconds, users=users, body=BODY.decode()))

    def measure(self) -> tuple[float, float]:
        return self._all(self._ours), self._theirs()

    def _all(self, start: Callable[[int], Callable[[], float]]) -> float:
        return sum(end() for end in [start(number) for number in range(self._options.processes)])

    def _ours(self, number: int) -> Callable[[], float]:
        report = self._root / f"ours-{number}.json"
        words = [sys.executable, "manage.py", "run_suite", str(self._suite), f"--report=json={report}"]
        process = subprocess.Popen(words, env=self._stack.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

        def end() -> float:
            said, _ = process.communicate(timeout=self._options.seconds + 60)
            found: dict[str, Any] = orjson.loads(report.read_bytes())["cases"][0]["load"]
            assert found["figures"]["errors"] == 0, said.decode()
            return float(found["figures"]["throughput"])

        return end

    def _theirs(self) -> float:
        options = self._options
        words = [sys.executable, "-m", "locust", "-f", "benchmarks/locustfile.py", "--headless", "--json"]
        words += ["--host", self._receiver.url, "-u", str(options.users), "-r", str(options.users * 10)]  # all at once
        words += ["-t", f"{options.seconds}s", "--skip-log"]
        words += ["--processes", str(options.processes)] if options.processes > 1 else []
        done = subprocess.run(words, capture_output=True, timeout=options.seconds + 60, check=True)
        found = orjson.loads(done.stdout[done.stdout.rindex(b"[\n") :])[0]  # its workers print an empty list each
        assert found["num_failures"] == 0, found
        return float(found["num_requests"] / (found["last_request_timestamp"] - found["start_time"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--users", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        databases = Databases(root, None)
        with databases.fresh() as url, Nginx(root / "nginx", log=False) as receiver:
            stack = Stack(root / "var", url)
            try:
                stack.start("web")
                stack.register("target", receiver.url + "/in")
                stack.terminate("web")
                pairs = [Beside(root, stack, receiver, options).measure() for _ in range(options.repeat)]
            finally:
                stack.close()
    ours, theirs = (round(statistics.median(pair[which] for pair in pairs), 1) for which in (0, 1))
    found = {"ours_per_second": ours, "locust_per_second": theirs, "ratio": round(ours / theirs, 3)}
    print(orjson.dumps({**found, "processes": options.processes, "pairs": pairs}).decode())


if __name__ == "__main__":
    main()
