"""Start the product's programs from a process that has their libraries loaded already.

A start costs a second of CPU, most of it for libraries. So each test process keeps one
process that loads them, once, and forks for every start. It holds nothing of the product,
no settings, no thread and no connection; a fork takes over arguments, environment, folder
and files, and then is what `python ARGV` would be: the program is run as `__main__`, and
the interpreter ends as it always does. With TEST_COLD_STARTS=1 every start is a cold one.

    python -m tests.warm SOCKET
"""

import atexit
import gc
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from weakref import finalize

import orjson

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = """
aiohttp celery.apps.worker channels.generic.websocket channels.layers channels.routing cryptography.x509
django.contrib.admin.apps django.contrib.messages.apps django.contrib.postgres.fields django.contrib.staticfiles
django.core.handlers.asgi django.core.mail django.core.management.base django.core.serializers.json
django.db.backends.postgresql.psycopg_any django.db.models django.forms django.template.loader django.test
django.urls django.views.generic django_filters environ hdrh.histogram httptools jiter jsonpath jsonschema_rs jwt
kombu.transport.memory prometheus_client psutil psycopg_pool re2 requests rest_framework.fields rich.console
rich.table sqlparse statistics structlog uuid_utils uvicorn.lifespan.on uvicorn.protocols.http.httptools_impl
uvicorn.protocols.websockets.websockets_sansio_impl uvicorn.server uvloop websockets.asyncio.client
whitenoise.middleware whitenoise.storage yaml zoneinfo
"""
# What the interpreter reads when it begins, and a fork would not heed: such a start is a cold one.
EARLY = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "TEST_COLD_STARTS")
LARGEST = 2**18  # of a request


class Process(Protocol):
    """What the two kinds of started processes have in common."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...


def start(argv: list[str], env: dict[str, str], stdout: int, stderr: int) -> Process:
    """Start `python ARGV`, in the folder of the sources with nothing to read; warm where that is the same."""
    if "TEST_COLD_STARTS" in os.environ or early(env) != early(dict(os.environ)):
        files: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr}
        return subprocess.Popen([sys.executable, *argv], cwd=ROOT, env=env, **files)
    return Fork(argv, env, stdout, stderr)


def early(env: dict[str, str]) -> dict[str, str]:
    """Return of an environment what the interpreter reads when it begins."""
    return {name: value for name, value in env.items() if name.startswith(EARLY) and name != "PYTHONUNBUFFERED"}


def run(argv: list[str], env: dict[str, str], timeout: float) -> "subprocess.CompletedProcess[str]":
    """Run `python ARGV` to its end; raises TimeoutExpired, as `subprocess.run` does."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        process = start(argv, env, out.fileno(), error.fileno())
        try:
            code = process.wait(timeout)
        except BaseException:
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise
        return subprocess.CompletedProcess(argv, code, *map(_text, (out, error)))


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode().replace("\r\n", "\n"))


class Fork:
    """A process that was forked for us; until its end is asked for it stays a zombie, and its id its own."""

    def __init__(self, argv: list[str], env: dict[str, str], stdout: int, stderr: int) -> None:
        self.args = argv
        self.returncode: int | None = None
        with open(os.devnull, "rb") as nothing:
            self.pid: int = ask({"argv": argv, "env": env}, nothing.fileno(), stdout, stderr)
        self._end, self._once = os.pidfd_open(self.pid), threading.Lock()  # readable once the process has ended
        finalize(self, os.close, self._end)

    def poll(self) -> int | None:
        """Return the exit code of a process that has ended, negative for a signal's."""
        return self._reap(0)

    def wait(self, timeout: float | None = None) -> int:
        """Await the end and return the exit code; raises TimeoutExpired."""
        code = self._reap(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int, /) -> None:
        """Send a signal, but to none that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _reap(self, timeout: float | None) -> int | None:
        if self.returncode is None and self._has_ended(timeout):
            with self._once:
                if self.returncode is None:
                    self.returncode = ask({"reap": self.pid})
        return self.returncode

    def _has_ended(self, timeout: float | None) -> bool:
        end = select.poll()
        end.register(self._end, select.POLLIN)
        return bool(end.poll(None if timeout is None else timeout * 1000))


class _Forge:
    """Our end of the process that forks, started when it is first asked."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.lock = threading.Lock()

    def ask(self, request: dict[str, Any], *files: int) -> int:
        with self.lock:
            if self.socket is None:
                self.socket = self._started()
            socket.send_fds(self.socket, [orjson.dumps(request)], files)
            return int(self.socket.recv(64))

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.warm", str(theirs.fileno())]
            env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
            files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "pass_fds": [theirs.fileno()]}
            process: Any = subprocess.Popen(command, cwd=ROOT, env={**env, "PYTHONUNBUFFERED": "1"}, **files)  # type: ignore[call-overload]
        atexit.register(lambda: (ours.close(), process.wait()))
        return ours


ask = _Forge().ask


def serve(server: socket.socket) -> dict[str, Any] | None:
    """Fork for each request until nobody is there to make one; returns, in a fork, what it is to be."""
    while True:
        data, files, _, _ = socket.recv_fds(server, LARGEST, 3)
        if not data:
            return None
        request: dict[str, Any] = orjson.loads(data)
        if "reap" in request:
            _, status = os.waitpid(request["reap"], 0)
            server.send(b"%d" % os.waitstatus_to_exitcode(status))
            continue
        if pid := os.fork():
            server.send(b"%d" % pid)
            for file in files:
                os.close(file)
            continue
        for standard, file in enumerate(files):
            os.dup2(file, standard)
            os.close(file)
        return request


def program(argv: list[str], env: dict[str, str]) -> Callable[[], object]:
    """Return what runs `python ARGV` in this process, which from now on has its environment and arguments."""
    os.environ.clear()
    os.environ.update(env)
    if argv[0] == "-m":
        sys.argv = argv[1:]
        return lambda: runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    sys.argv = argv
    return lambda: runpy.run_path(argv[0], run_name="__main__")


def main(number: str) -> None:
    """Load the libraries and fork on request; a fork ends with its program."""
    inherited = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests: we end with them
    for library in LIBRARIES.split():
        import_module(library)
    gc.collect()
    gc.freeze()
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lose the other threads"
    with socket.socket(fileno=int(number)) as server:
        request = serve(server)
    if request:
        signal.signal(signal.SIGINT, inherited)
        program(**request)()


if __name__ == "__main__":
    main(*sys.argv[1:])
