"""The supervisor: starts the processes of one machine, restarts what dies, and leaves nothing behind.

Run by `controlplane up` as `python -m controlplane.supervisor`. It loads no Django
and holds no state but its children, so it is small, and nothing in it can break
when a database or a setting does.
"""

import argparse
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from controlplane.runfile import AlreadyRunning, Run, accepts, can_listen

FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 30.0
STEADY_S = 60.0  # a child that lived so long starts over with the shortest delay
KILL_AFTER_S = 30.0
READY_POLL_S = 0.1
COLOURS = (36, 32, 35, 33, 34)
PR_SET_PDEATHSIG = 1
READ_BYTES = 65536
LONGEST_LINE = 1024 * 1024

ROLES: dict[str, tuple[str, ...]] = {
    "web": ("-m", "controlplane.web", "--host", "{host}", "--port", "{port}"),
    "deliver": ("-m", "controlplane", "deliver"),
    "edge": ("-m", "controlplane", "edge"),
    "worker": ("-m", "controlplane", "worker"),
    "example": ("-m", "examples.quickstart", "--url", "{url}", "--key-file", "{var}/run/example-key"),
}
DEFAULT_ROLES = ("web", "deliver", "edge", "worker")


@dataclass
class Child:
    """A role, the process that fills it now, and what became of those before."""

    role: str
    argv: list[str]
    prefix: str
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    start_at: float = 0.0  # when to start it (again)
    failures: int = 0  # in a row
    restarts: int = 0
    rest: bytes = b""  # of a line that is not complete yet


def next_delay(failures: int) -> float:
    """Return how long to wait after so many deaths in a row: doubling, up to half a minute."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(failures - 1, 10)))


def die_with_parent() -> Callable[[], None] | None:
    """Return what a child runs before its program, so that it is asked to stop when we are killed."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we could ask
            os._exit(1)

    return arrange


@dataclass
class Supervisor:
    """Children, the loop that watches them, and the file that tells about them."""

    children: list[Child]
    run_file: Run
    host: str
    port: int
    url: str  # where people reach it
    stopping_since: float | None = None
    kill_at: float | None = None
    ready: bool = False
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def run(self) -> None:
        """Watch until asked to stop and every child has ended."""
        self._listen_to_signals()
        self.begun_at = time.monotonic()
        self.before_exec = die_with_parent()
        while not self._is_done():
            now = time.monotonic()
            self._start_due(now)
            self._kill_overdue(now)
            self._tell_ready()
            for key, _ in self.selector.select(self._pause(now)):
                key.data()
            self._reap(time.monotonic())
        self.selector.close()

    # -- signals

    def _listen_to_signals(self) -> None:
        reader, writer = os.pipe()
        for end in (reader, writer):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.selector.register(reader, selectors.EVENT_READ, lambda: os.read(reader, 512))
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake the selector
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)

    def _asked_to_stop(self, number: int, _frame: FrameType | None) -> None:
        """Pass the wish on; a second Ctrl-C means now."""
        now = time.monotonic()
        if self.stopping_since is None:
            self.stopping_since, self.kill_at = now, now + KILL_AFTER_S
            self._signal_all(signal.SIGTERM)
        elif number == signal.SIGINT:
            self.kill_at = now

    def _signal_all(self, number: int) -> None:
        for child in self.children:
            if child.process is not None:
                child.process.send_signal(number)

    # -- life of the children

    def _is_done(self) -> bool:
        return self.stopping_since is not None and not any(child.process for child in self.children)

    def _start_due(self, now: float) -> None:
        for child in self.children:
            if child.process is None and self.stopping_since is None and child.start_at <= now:
                self._start(child, now)

    def _start(self, child: Child, now: float) -> None:
        env = {**os.environ, "CONTROLPLANE_RESTARTS": str(child.restarts), "PYTHONUNBUFFERED": "1"}
        if sys.stdout.isatty():
            env["FORCE_COLOR"] = "1"
        # Its own process group: Ctrl-C on the terminal is ours alone to pass on, once.
        child.process = subprocess.Popen(  # noqa: S603 - our own command lines
            child.argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            process_group=0,
            preexec_fn=self.before_exec,  # safe: this process has one thread
        )
        child.started_at, child.rest = now, b""
        assert child.process.stdout is not None
        os.set_blocking(child.process.stdout.fileno(), False)
        self.selector.register(child.process.stdout, selectors.EVENT_READ, lambda: self._relay(child))
        self._write_run_file()
        if self.stopping_since is not None:  # the signal came while it was being started
            child.process.send_signal(signal.SIGTERM)

    def _reap(self, now: float) -> None:
        for child in self.children:
            if child.process is not None and (code := child.process.poll()) is not None:
                self._ended(child, code, now)

    def _ended(self, child: Child, code: int, now: float) -> None:
        assert child.process is not None
        assert child.process.stdout is not None
        while self._relay(child):
            pass
        child.process.stdout.close()
        child.process = None
        if self.stopping_since is None:
            child.failures = 1 if now - child.started_at > STEADY_S else child.failures + 1
            child.restarts += 1
            delay = next_delay(child.failures)
            child.start_at = now + delay
            how = f"by signal {-code}" if code < 0 else f"with code {code}"
            say(f"{child.role} ended {how}; it starts again in {delay:g} s")
        self._write_run_file()

    def _kill_overdue(self, now: float) -> None:
        if self.kill_at is not None and now >= self.kill_at:
            say("killing what has not stopped in time")
            self._signal_all(signal.SIGKILL)
            self.kill_at = None

    def _pause(self, now: float) -> float | None:
        """Return how long nothing is due, or None: then only a signal or output wakes us."""
        times = [child.start_at for child in self.children if child.process is None and self.stopping_since is None]
        if self.kill_at is not None:
            times.append(self.kill_at)
        if not self.ready and self.stopping_since is None:
            times.append(now + READY_POLL_S)
        return max(0.0, min(times) - now) if times else None

    # -- what people see

    def _tell_ready(self) -> None:
        """Say once when the web process takes connections."""
        if self.ready or self.stopping_since is not None:
            return
        if any(child.role == "web" for child in self.children) and not accepts(self.host, self.port):
            return
        self.ready = True
        say(f"ready after {time.monotonic() - self.begun_at:.1f} s")

    def _relay(self, child: Child) -> bool:
        """Print the complete lines a child wrote, each under its role; return whether there may be more."""
        assert child.process is not None
        output = child.process.stdout
        if output is None or output not in self.selector.get_map():
            return False
        try:
            data = os.read(output.fileno(), READ_BYTES)
        except BlockingIOError:
            return False
        *lines, child.rest = (child.rest + data).split(b"\n")
        if not data or len(child.rest) > LONGEST_LINE:
            lines, child.rest = [*lines, child.rest], b""
        for line in filter(None, lines):
            # A JSON line stays one that a log collector can read.
            prefix = "" if line.startswith(b"{") else child.prefix
            put(prefix + line.decode(errors="replace"))
        if not data:
            self.selector.unregister(output)
        return bool(data)

    def _write_run_file(self) -> None:
        self.run_file.write(
            host=self.host,
            port=self.port,
            url=self.url,
            processes=[
                {"role": child.role, "pid": child.process.pid if child.process else None, "restarts": child.restarts}
                for child in self.children
            ],
        )


def put(line: str) -> None:
    """Write a line; a closed terminal or pipe must not stop the processes behind it."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except (BrokenPipeError, OSError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open as our output


def say(text: str) -> None:
    put(f"up       | {text}")


def make_children(roles: list[str], values: dict[str, str]) -> list[Child]:
    """Return a child for each role, its command line filled in."""
    coloured = sys.stdout.isatty()
    children = []
    for number, role in enumerate(roles):
        start, end = (f"\x1b[{COLOURS[number % len(COLOURS)]}m", "\x1b[0m") if coloured else ("", "")
        argv = [sys.executable, *(word.format(**values) for word in ROLES[role])]
        children.append(Child(role, argv, f"{start}{role:<8} |{end} "))
    return children


def main() -> int:
    """Supervise until stopped; exit code 0 after a clean stop, 1 when it cannot begin."""
    parser = argparse.ArgumentParser(prog="controlplane.supervisor", description=__doc__)
    parser.add_argument("--var", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--url", required=True)
    parser.add_argument("roles", nargs="+", choices=sorted(ROLES))
    options = parser.parse_args()
    run_file = Run(options.var)
    try:
        run_file.acquire()
    except AlreadyRunning as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if "web" in options.roles and (problem := can_listen(options.host, options.port)):
        sys.stderr.write(f"{problem}\n")
        return 1
    values = {"host": options.host, "port": str(options.port), "url": options.url, "var": str(options.var)}
    try:
        Supervisor(make_children(options.roles, values), run_file, options.host, options.port, options.url).run()
    finally:
        run_file.release()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
