"""The company's receivers: one row for each protocol, one small class each."""

from examples.quickstart.board import Board
from examples.quickstart.client import Client
from examples.quickstart.company import Party
from examples.quickstart.peers.base import Peer
from examples.quickstart.peers.gateway import GatewayPeer
from examples.quickstart.peers.http import HttpPeer
from examples.quickstart.peers.pull import PullPeer
from examples.quickstart.peers.tcp import TcpPeer
from examples.quickstart.peers.udp import UdpPeer
from examples.quickstart.peers.ws import WsPeer

PEERS: dict[str, type[Peer]] = {
    "http": HttpPeer,
    "pull": PullPeer,
    "gateway": GatewayPeer,
    "ws": WsPeer,
    "tcp": TcpPeer,
    "udp": UdpPeer,
}


def make_peers(company: tuple[Party, ...], board: Board, client: Client) -> list[Peer]:
    """Return a receiver for each door of the company."""
    return [PEERS[door.protocol](party, door, board, client) for party in company for door in party.doors]
