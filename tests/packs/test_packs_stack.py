"""A pack by its real processes: the control plane, a worker, and the example server, on both databases."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from testing.packs.documents import find
from tests.servers.ports import free_port
from tests.stack import Stack
from tests.testing.test_suites_api import ended

ROOT = Path(__file__).parents[2]


@contextmanager
def example(name: str, *args: str) -> Iterator[int]:
    """Run `python -m examples.NAME`, and yield its port once it says that it is there."""
    port = free_port()
    argv = [sys.executable, "-m", f"examples.{name}", "--port", str(port), *args]
    process = subprocess.Popen(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"at 127.0.0.1:{port}".encode())
        yield port
    finally:
        with process:  # closes its pipe
            process.terminate()
            assert process.wait(20) == 0


def test_a_pack_is_run_and_installed_over_rest(make_stack: Callable[..., Stack]) -> None:
    """A worker runs it against one's own system, and what is installed is one's own suite from then on."""
    stack = make_stack()
    stack.start("web")
    stack.start("worker")
    with example("agent_events") as port:
        stack.register("my-agents", f"ws://127.0.0.1:{port}")
        run = stack.api("POST", "packs/agent-events/run/", json={"systems": {"events": "my-agents"}})
        assert run.status_code == 202, run.text
        done = ended(stack, run.json())
        assert (done["verdict"], done["counts"]) == ("passed", {"passed": len(find("agent-events").suite.cases)})

    systems = {"events": "my-agents"}
    made = stack.api("POST", "packs/agent-events/install/", json={"systems": systems, "slug": "my-events"})
    assert made.status_code == 201, made.text
    with example("agent_events", "--break", "floods") as port:
        stack.register("other-agents", f"ws://127.0.0.1:{port}")
        over = {"systems": {"events": "other-agents"}, "vars": {"patience": "1s"}}
        broken = ended(stack, stack.api("POST", "suites/my-events/run/", json=over).json())
    assert (broken["verdict"], broken["counts"]["failed"]) == ("failed", 1)
    assert broken["cases"][0]["case"] == "sends-no-more-than-credit"
    assert stack.command("run_suite", "pack:agent-events").returncode == 2
