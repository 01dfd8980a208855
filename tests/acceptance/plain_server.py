"""Python's own http.server as a receiver that is not ours, for machines without nginx; the same face as `Nginx`."""

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.servers.ports import free_port
from tests.stack import ROOT, wait_for


class Handler(BaseHTTPRequestHandler):
    """Answers 204 to everything and logs one line per request."""

    protocol_version = "HTTP/1.1"
    log: Path

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self.rfile.read(length)
        names = ("webhook-id", "x-message-id", "x-attempt")
        line = " ".join([*(self.headers.get(name, "-") for name in names), str(length)])
        with self.log.open("a") as log:
            log.write(f"{line}\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the log above is the one that counts."""


class PlainServer:
    """Run http.server below `directory`; `lines()` are the requests, `webhook-id message-id attempt length`."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def lines(self) -> list[list[str]]:
        """Return the logged requests, split into their fields."""
        log = self.directory / "access.log"
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.acceptance.plain_server", str(self.port), str(self.directory)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        wait_for(self._process.stdout.readline, 30, "http.server listening")
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)


def main(port: str, directory: str) -> None:
    """Serve until terminated."""
    Handler.log = Path(directory) / "access.log"
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    print("listening", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
