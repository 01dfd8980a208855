"""Ports that stay free until somebody binds them, and that nobody used before."""

import itertools
import os
import random
import socket
from collections.abc import Iterator

# Below what a system hands out by itself: a connection going out, or a listener on port 0, takes none of these.
LOWEST, HIGHEST = 15_000, 32_000


def _mine() -> Iterator[int]:
    """Yield the ports of this test process, each once before any comes again.

    Each process of a parallel run has a part of its own. A stack that tests share goes
    on trying what earlier tests registered: a port that came back too soon would hand
    their messages to the receiver of a later one.
    """
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = (HIGHEST - LOWEST) // count
    first = LOWEST + number * size
    start = random.SystemRandom().randrange(size)  # another run on this machine chooses too
    return itertools.cycle([first + (start + step) % size for step in range(size)])


_ports = _mine()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """Return a loopback port nobody listens at, of TCP or of UDP."""
    for port in _ports:
        with socket.socket(type=kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("unreachable: the ports never end")
