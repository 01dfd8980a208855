"""Serve until Ctrl-C, whole or broken in stated ways."""

from examples.serving import serve
from examples.websocket.server import HubServer
from examples.websocket.switches import SWITCHES

if __name__ == "__main__":
    serve(HubServer, SWITCHES, "websocket")
