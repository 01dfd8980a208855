"""The sockets that we listen on: ours alone are opened outside of egress, and only to be called."""

import socket
from pathlib import Path

BACKLOG = 1024
RECEIVE_BYTES = 4 * 1024 * 1024


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a TCP socket that listens there; raises OSError when that cannot be had."""
    found = _bound(host, port, socket.SOCK_STREAM)
    try:
        found.listen(BACKLOG)
    except OSError:
        found.close()
        raise
    return found


def datagram_socket(host: str, port: int) -> socket.socket:
    """Return a UDP socket bound there, with room for a burst; raises OSError when that cannot be had."""
    return _bound(host, port, socket.SOCK_DGRAM)


def _bound(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    try:
        if kind == socket.SOCK_STREAM:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        found.setblocking(False)
        found.bind((host, port))
    except OSError:
        found.close()
        raise
    return found


def kernel_drops(port: int) -> int:
    """Return how many datagrams to `port` the kernel had no room for, 0 where it does not say (Linux does)."""
    found = 0
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if int(columns[1].rpartition(":")[2], 16) == port:
                found += int(columns[-1])
    return found
