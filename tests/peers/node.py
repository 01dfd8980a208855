"""Node.js scripts of this folder as servers on loopback."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DEBIAN = "/usr/share/nodejs"  # where Debian's node-ws lies
ENVIRONMENT = {**os.environ, "NODE_PATH": os.pathsep.join(filter(None, (os.environ.get("NODE_PATH"), DEBIAN)))}


@cache
def missing(module: str) -> str:
    """Return what is missing to run scripts that need `module`; "" when nothing is."""
    node = shutil.which("node")
    if node is None:
        return "Node.js: no `node`; apt-get install nodejs"
    found = subprocess.run([node, "-e", f"require('{module}')"], env=ENVIRONMENT, capture_output=True, timeout=30)
    return "" if found.returncode == 0 else f"Node.js module `{module}`; apt-get install node-{module}"


def need(module: str) -> None:
    """Skip by name without it; with CI set that is a failure."""
    if reason := missing(module):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@contextmanager
def node(script: str, module: str, *words: str, port: int = 0) -> Iterator[int]:
    """Run a script until left; yields the port it listens at."""
    need(module)
    command = ["node", str(HERE / script), str(port), *words]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening "), f"{script} did not start"
            yield int(line.split()[1])
        finally:
            process.kill()
