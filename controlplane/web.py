"""The web process: pages, REST API and intake, served by uvicorn. Run as `python -m controlplane.web`."""

import argparse
import os
import signal
import socket
import sys
import warnings
from typing import TYPE_CHECKING

from endpoints.transports.files import allow_files

if TYPE_CHECKING:
    import uvicorn

BACKLOG = 2048
CONNECTIONS = 12_000  # more than one address may keep open, sockets and waiting calls together
FILES = 1024  # beside the connections: database, static files, sockets of our own
STOP_S = 8  # the supervisor promises to be gone 10 s after it was asked to
PING_EVERY_S, PONG_S = 5.0, 7.0  # a silent dead peer is noticed within their sum
FIRST_FRAME_BYTES = 8 * 1024  # of a WebSocket, until its application knows who is there and allows more


def main() -> None:
    """Serve until SIGTERM or SIGINT; exit code 1 when the address cannot be had."""
    parser = argparse.ArgumentParser(prog="controlplane.web", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--connections", type=int, default=CONNECTIONS, help="how many to serve at once, as far as files go"
    )
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    import django

    django.setup()
    serve(options.host, options.port, options.connections)


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a bound socket, so that a taken port is one clear line and not a traceback from the server."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        sys.stderr.write(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another with --port.\n")
        raise SystemExit(1) from None
    return listener


def serve(host: str, port: int, connections: int) -> None:
    """Run uvicorn on our ASGI application, with a heartbeat beside it."""
    import uvicorn
    from django.conf import settings

    from controlplane.protocol import BoundedProtocol
    from controlplane.sockets import SocketProtocol
    from messaging.services.processes import Heartbeat

    # Each connection is a file; where there are few, some are left for the rest all the same.
    files = allow_files(connections + FILES)
    BoundedProtocol.max_connections = min(connections, max(files - FILES, files // 2))
    listener = listening_socket(host, port)
    config = uvicorn.Config(
        "controlplane.asgi:application",
        http=BoundedProtocol,
        loop="uvloop",
        lifespan="on",
        access_log=False,
        log_config=None,
        backlog=BACKLOG,
        ws=SocketProtocol,
        ws_max_size=FIRST_FRAME_BYTES,
        ws_ping_interval=PING_EVERY_S,
        ws_ping_timeout=PONG_S,
        # Without a trusted proxy nobody may say which address or scheme a request came by.
        proxy_headers=bool(settings.ENV.trusted_proxies),
        forwarded_allow_ips=settings.ENV.trusted_proxies,
        server_header=False,
        timeout_graceful_shutdown=STOP_S,
    )
    # Uvicorn stops on its own handlers and then raises the signal once more: by default that
    # ends the process here and now, and a heartbeat that never said goodbye counts as lost.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    # Static files are short and come from the disk: reading them in a thread, as Django does, is fine.
    warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
    with Heartbeat("web"):
        stopping_server(config).run(sockets=[listener])


def stopping_server(config: "uvicorn.Config") -> "uvicorn.Server":
    """Return a server that lets go those who merely wait as soon as it is to stop, instead of waiting with them."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            from controlplane.asgi import application

            await application.let_go()
            await super().shutdown(sockets)

    return Server(config)


if __name__ == "__main__":
    main()
