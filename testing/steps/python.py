"""`python:` hooks of the operator's own, from a module that the settings name, in a process that can be ended.

A thread cannot be stopped and a coroutine that never awaits holds up its loop, so each step
gets a process: it knows neither our secrets nor our environment, and ends with the step.
"""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import orjson
from django.conf import settings

from endpoints.egress import own_doors
from testing.assertions.observation import Observation
from testing.document.kinds import ANYTHING, NAME, Field, Kind, ListOf, MapOf, Shape, text
from testing.steps.asking import as_json, refuse
from testing.steps.base import CannotRun, StepAction, Tools

CHILD = Path(__file__).with_name("python_child.py")
MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
GRACE_S = 0.9  # for a cleanup, once it is told to end
MAX_BYTES = 1024 * 1024
KEPT_OUTPUT = 16 * 1024
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")


class PythonStep(StepAction):
    """Judged by its hooks: False or an AssertionError fails it, any other exception cannot be judged.

    `body` has `values` (what the hooks left in `context.values`), `output` and `cleanup`.
    """

    SHAPE: ClassVar[Kind] = Shape(
        {
            "module": Field(text(200, MODULE, fixed=True), "A module that CONTROLPLANE_PYTHON_MODULES names.", True),
            "class": Field(text(100, NAME, fixed=True), "The class with the hooks.", default="CaseHooks"),
            "with": Field(MapOf(ANYTHING), "What the hooks find in `context.params`.", default={}),
            "systems": Field(
                ListOf(text(63, fixed=True), at_most=20),
                "Aliases whose addresses are in `context.systems`.",
                default=[],
            ),
        },
        short="module",
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("status", "body", "latency", "error")
    JUDGES: ClassVar[bool] = True

    def writes(self, params: Any) -> bool:
        return True  # who knows what it does

    def names_all(self, params: Any) -> bool:
        return bool(params["systems"])  # those that name some are taken at their word

    def aliases(self, params: Any) -> list[str]:
        return list(params["systems"])

    async def run(self, params: Any, tools: Tools) -> Observation:
        _check_allowed(params["module"])
        started = time.perf_counter()
        asked = {
            **{name: params[name] for name in ("module", "class")},
            "params": params["with"],
            "systems": {alias: await _address(alias, tools) for alias in params["systems"]},
            "zones": [str(zone) for zone in settings.ENV.egress_zones],
            "own": [[door.address, door.port] for door in own_doors(settings.ENV.public_url)],
        }
        answer, output = await _ask_child(as_json(asked))
        seen = Observation(latency_ms=(time.perf_counter() - started) * 1000, status=answer["verdict"])
        told = {name: answer.get(name) for name in ("phase", "detail", "cleanup", "values")}
        seen.body = as_json(told | {"output": output})
        seen.request = {"module": params["module"], "class": params["class"], "with": params["with"]}
        seen.dirty = answer["cleanup"] not in ("ok", "none")
        if answer["verdict"] == "errored":
            raise CannotRun(answer["detail"])
        return seen if answer["verdict"] == "passed" else refuse(seen, "nack", answer["code"], answer["detail"])


def _check_allowed(module: str) -> None:
    allowed = settings.ENV.python_modules
    if module not in allowed:
        named = f"it names {', '.join(allowed)}" if allowed else "it names none"
        raise CannotRun(f"module '{module}' is not in CONTROLPLANE_PYTHON_MODULES; {named}")


async def _address(alias: str, tools: Tools) -> Mapping[str, Any]:
    address = (await tools.transport(alias)).address
    names = ("system", "interface", "protocol", "host", "port", "path")
    return {name: getattr(address, name) for name in names}


async def _ask_child(question: bytes) -> tuple[dict[str, Any], str]:
    """Return what the hooks came to, and what they printed; the process is gone when this ends, however it ends."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-s", str(CHILD)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd="/",
        start_new_session=True,  # what it starts itself ends with it
    )
    talking = asyncio.ensure_future(_talk(child, question))
    try:
        raw, printed = await asyncio.shield(talking)
    except asyncio.CancelledError:
        _signal(child, signal.SIGTERM)
        await asyncio.wait({talking}, timeout=GRACE_S)
        raise
    finally:
        _signal(child, signal.SIGKILL)
        talking.cancel()
        await asyncio.wait({talking})
        await child.wait()
    output = printed[-KEPT_OUTPUT:].decode("utf-8", "replace")
    try:
        return orjson.loads(raw), output
    except orjson.JSONDecodeError:
        last = output.strip().rsplit("\n", 1)[-1][:300]
        raise CannotRun(f"the hooks' process ended with code {child.returncode}: {last}") from None


async def _talk(child: asyncio.subprocess.Process, question: bytes) -> tuple[bytes, bytes]:
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with suppress(OSError):  # it may have ended before it read
        child.stdin.write(question)
        await child.stdin.drain()
        child.stdin.close()
    raw, printed = await asyncio.gather(_all_of(child.stdout), _all_of(child.stderr))
    await child.wait()
    return raw, printed


async def _all_of(stream: asyncio.StreamReader) -> bytes:
    """Return what comes, up to the bound; the rest is read and forgotten, so that nobody waits to be read."""
    found = bytearray()
    while block := await stream.read(65536):
        found += block[: MAX_BYTES - len(found)]
    return bytes(found)


def _signal(child: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
