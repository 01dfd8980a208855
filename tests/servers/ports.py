"""Ports that stay free until somebody binds them."""

import random
import socket

# Below what a system hands out by itself: a connection going out, or a listener on port 0, takes none of these.
LOWEST, HIGHEST = 15_000, 32_000


def free_port() -> int:
    """Return a loopback port nobody listens at; chosen at random, since other test processes choose too."""
    while True:
        port = random.SystemRandom().randrange(LOWEST, HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
