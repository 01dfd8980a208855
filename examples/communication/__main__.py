"""Serve until Ctrl-C, whole or broken in stated ways."""

from examples.communication.server import SWITCHES, CommunicationServer
from examples.serving import serve

if __name__ == "__main__":
    serve(CommunicationServer, SWITCHES, "communication")
