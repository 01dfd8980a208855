"""The contract of a receiver of the company, over whichever protocol: start, say where it is, take, close."""

from abc import ABC, abstractmethod
from typing import Any

from examples.quickstart.board import Board
from examples.quickstart.client import Client
from examples.quickstart.company import Door, Party


class Peer(ABC):
    """One door of one system. It is made and started before the control plane is asked for anything."""

    def __init__(self, party: Party, door: Door, board: Board, client: Client) -> None:
        self.party, self.door, self.board, self.client = party, door, board, client

    @abstractmethod
    async def start(self) -> None:
        """Begin to take what comes."""

    @abstractmethod
    def address(self) -> dict[str, Any]:
        """Return the fields of the endpoint that leads here; asked for once the board is started, too."""

    async def aclose(self) -> None:  # noqa: B027
        """Stop; what needs no stopping need not say so."""

    async def take(self, event: str, attempt: object, body: bytes) -> int:
        """Note what arrived and return the status that answers it; 2xx means that it is taken."""
        return await self.board.take(self.party, self.door, event, attempt, body)
