"""Run the example: `python -m examples.quickstart --url http://127.0.0.1:8000 --key-file var/run/example-key`.

Starts local receivers, registers them, and sends a message about every two seconds while
somebody is likely to look, then every twenty, until SIGTERM or Ctrl-C. The control plane may
come, go and restart in the meantime.
"""

import argparse
import asyncio
import signal
import time
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from examples.quickstart.board import Board
from examples.quickstart.client import Client, Refused
from examples.quickstart.company import COMPANY
from examples.quickstart.peers import make_peers
from examples.quickstart.peers.base import Peer
from examples.quickstart.registration import register, why_not
from examples.quickstart.senders import SENDERS

PAUSE_S = 2.0
WAIT_S = 2.0  # before asking a control plane that did not answer again
PATIENCE_S = 15.0


async def run(url: str, key_file: Path, pause_s: float) -> None:
    """Play the company until we are told to stop."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    board, client = Board(COMPANY), Client(url, key_file)
    peers = make_peers(COMPANY, board, client)
    for peer in peers:
        await peer.start()
    runner = await board.start()
    print(f"quickstart: receivers at http://127.0.0.1:{board.port}/", flush=True)
    playing = asyncio.create_task(play(client, peers, pause_s))
    try:
        await asyncio.wait([playing, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        for peer in peers:
            await peer.aclose()
        await client.close()
        await runner.cleanup()
    if not playing.cancelled():
        playing.result()  # it never ends by itself: this raises what ended it


async def play(client: Client, peers: Sequence[Peer], pause_s: float) -> None:
    """Register, then send; start over whenever the control plane is away or no longer knows us."""
    said, patient_until = "", time.monotonic() + PATIENCE_S
    senders = [sender(client, pause_s) for sender in SENDERS.values()]
    while True:
        try:
            if reason := await why_not(client):
                print(f"quickstart: nothing is registered or sent: {reason}", flush=True)
                await asyncio.Event().wait()
            await register(client, peers)
            await together(sender.run() for sender in senders)
        except (OSError, Refused) as exc:
            # Once per trouble, not once per try; that we were started together is no trouble.
            if str(exc) != said and time.monotonic() > patient_until:
                said = str(exc)
                print(f"quickstart: waiting: {said}", flush=True)
            await asyncio.sleep(WAIT_S)


async def together(runs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all of them until one fails, end the others, and raise what it raised."""
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m examples.quickstart", description="A small company, to break.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the control plane is")
    parser.add_argument("--key-file", type=Path, default=Path("var/run/example-key"), help="file with an API key")
    parser.add_argument("--pause", type=float, default=PAUSE_S, help="seconds between messages, on average")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.url, arguments.key_file, arguments.pause))


if __name__ == "__main__":
    main()
