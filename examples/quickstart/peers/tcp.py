"""Over TCP: a device that reads a JSON object a line, and answers each with a line."""

import asyncio
import json
from typing import Any

from examples.quickstart.peers.base import Peer

LONGEST_LINE = 2 * 1024 * 1024


class TcpPeer(Peer):
    """Listens at any free port of this machine."""

    async def start(self) -> None:
        self._talking: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, limit=LONGEST_LINE)

    def address(self) -> dict[str, Any]:
        port = self._server.sockets[0].getsockname()[1]
        config = {"framing": "line", "reply": "ack", "body": "envelope"}
        return {"protocol": "tcp", "host": "127.0.0.1", "port": port, "config": config}

    async def aclose(self) -> None:
        self._server.close()
        talking = dict(self._talking)
        for writer in talking.values():
            writer.close()
        await asyncio.gather(*filter(None, talking))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._talking[asyncio.current_task()] = writer
        try:
            while line := await reader.readline():
                message = json.loads(line)
                status = await self.take(message["event_type"] or "", "", line.strip())
                answer = {"type": "ack" if status < 300 else "nack", "message_id": message["message_id"]}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass  # the line broke, or what came was no line of ours
        finally:
            del self._talking[asyncio.current_task()]
            writer.close()
