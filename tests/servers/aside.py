"""A scripted receiver in a process of its own, so that what it does costs the test and other receivers nothing.

    with Aside("HUGE") as receiver: ... receiver.url ...

`python -m tests.servers.aside PORT ANSWER DELAY_S` is that process; ANSWER is a name of
`tests.servers.answers`, or a status.
"""

import signal
import socket
import subprocess
import sys
from typing import Self

from tests.servers import answers
from tests.servers.answers import Answer
from tests.servers.http import HttpReceiver
from tests.servers.ports import free_port


class Aside:
    """Answers every request alike until left; use as a context manager."""

    def __init__(self, answer: str = "200", *, delay_s: float = 0.0) -> None:
        self._words = [answer, str(delay_s)]
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.servers.aside", str(self.port), *self._words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the receiver did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)


class BlackHole:
    """An address whose every packet is dropped: a listener nobody accepts at, its queue full."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", free_port()), backlog=0)
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        self._waiting = [socket.socket() for _ in range(4)]
        for one in self._waiting:
            one.setblocking(False)
            one.connect_ex(self._listener.getsockname())
        return self

    def __exit__(self, *exc: object) -> None:
        for one in (*self._waiting, self._listener):
            one.close()


def main(port: str, answer: str, delay_s: str) -> None:
    """Serve until terminated."""
    said = Answer(int(answer), delay_s=float(delay_s)) if answer.isdigit() else getattr(answers, answer)
    with HttpReceiver(port=int(port)) as receiver:
        receiver.is_keeping = False
        receiver.answer(said)
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(*sys.argv[1:])
