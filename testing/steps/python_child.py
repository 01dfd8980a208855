"""Runs the hooks of one `python` step in a process of their own; standard input says which, standard output what came.

Started by path, without Django and without the environment of whoever starts it: it imports
nothing of ours but the table of addresses. What hooks print goes to standard error.
"""

import asyncio
import importlib
import inspect
import json
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

PHASES = ("setup", "execute", "validate")
MEMORY = 2 * 1024**3
CLEANUP_S = 0.6  # after a SIGTERM; without one it has what is left of the step's time
SENDS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}


def guard(zones: list[str], own: list[list[Any]]) -> None:
    """Let Python's sockets reach only what deliveries may reach. No sandbox: the hooks are the operator's own code."""
    from ipaddress import ip_address

    from endpoints.addresses import parse_zones, why_denied

    opened, doors = parse_zones(zones), {(str(address), int(port)) for address, port in own}

    def look(event: str, given: tuple[Any, ...]) -> None:
        if event not in SENDS or len(given) < 2 or given[1] is None:
            return
        address = given[SENDS[event]]
        if not isinstance(address, tuple):
            raise PermissionError(f"{address!r:.100} is refused: it is no address of the network")
        try:
            parsed = ip_address(str(address[0]))
        except ValueError:
            raise PermissionError(f"{address[0]!r:.100} is refused: resolve it first") from None
        why = "it is our own door" if address[:2] in doors else why_denied(parsed, int(address[1]), opened)
        if why:
            raise PermissionError(f"address {address[0]} port {address[1]} is refused: {why}")

    sys.addaudithook(look)


async def work(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict: passed, failed (judged wrong), or errored (could not be judged)."""
    context = SimpleNamespace(params=asked["params"], systems=asked["systems"], values={})
    told = {"verdict": "passed", "code": "", "phase": "import", "detail": "", "cleanup": "none"}
    hooks, fault = await attempt(lambda: make(asked["module"], asked["class"]))
    if fault is not None:
        return told | {"verdict": "errored", "detail": said(fault), "values": {}}
    for phase in PHASES:
        found, fault = await attempt(lambda phase=phase: call(hooks, phase, context))  # type: ignore[misc]
        told |= {"phase": phase, **judged(phase, found, fault)}
        if told["verdict"] != "passed":
            break
    if hasattr(hooks, "cleanup"):
        limit = CLEANUP_S if isinstance(fault, asyncio.CancelledError) else None
        found, fault = await attempt(lambda: asyncio.wait_for(call(hooks, "cleanup", context), limit))
        # Whatever comes of it never changes the verdict.
        told["cleanup"] = said(fault) if fault is not None else "returned False" if found is False else "ok"
    return told | {"values": context.values}


def judged(phase: str, found: Any, fault: BaseException | None) -> dict[str, str]:
    """Return what came of a phase; of validate only True is a yes."""
    if isinstance(fault, AssertionError):
        return {"verdict": "failed", "code": "assertion", "detail": f"{phase}: {fault or 'it did not hold'}"}
    if fault is not None:
        return {"verdict": "errored", "detail": f"{phase}: {said(fault)}"}
    if found is False or (phase == "validate" and found is not True):
        return {"verdict": "failed", "code": "returned_false", "detail": f"{phase} returned {found!r:.100}"}
    return {}


async def attempt(step: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
    """Return what comes of a step of others, or what it raised."""
    try:
        return await step(), None
    except asyncio.CancelledError as exc:
        return None, exc
    except Exception as exc:  # noqa: BLE001
        return None, exc


async def make(module: str, name: str) -> Any:
    hooks = getattr(importlib.import_module(module), name)()
    if not any(hasattr(hooks, phase) for phase in ("execute", "validate")):
        raise TypeError(f"{name} has neither execute nor validate")
    return hooks


async def call(hooks: Any, name: str, context: Any) -> Any:
    """Call a hook, with the context if it takes one; a hook that is not there says True."""
    hook: Callable[..., Any] | None = getattr(hooks, name, None)
    if hook is None:
        return True
    found = hook(context) if inspect.signature(hook).parameters else hook()
    return await found if inspect.isawaitable(found) else found


def said(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}"[:500]


async def main() -> dict[str, Any]:
    asked = json.loads(sys.stdin.buffer.read())
    guard(asked["zones"], asked["own"])
    task = asyncio.ensure_future(work(asked))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = os.dup(1)
    os.dup2(2, 1)
    result = asyncio.run(main())
    with os.fdopen(answer, "w") as out:
        json.dump(result, out, default=str)
