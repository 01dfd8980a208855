"""Run the example: `python -m examples.quickstart --url http://127.0.0.1:8000 --key-file var/run/example-key`.

Starts local receivers, registers them, and sends a message about every two seconds while
somebody is likely to look, then every ten, until SIGTERM or Ctrl-C. The control plane may
come, go and restart in the meantime.
"""

import argparse
import asyncio
import random
import signal
import time
from itertools import count
from pathlib import Path

from examples.quickstart.client import Client, Refused
from examples.quickstart.company import COMPANY, next_message
from examples.quickstart.peers import Peers
from examples.quickstart.registration import register, why_not

PAUSE_S = 2.0
LIVELY = 60  # messages; then the shop grows quiet, since an example that is left alone should cost next to nothing
QUIET = 5
WAIT_S = 2.0  # before asking a control plane that did not answer again
PATIENCE_S = 15.0


async def run(url: str, key_file: Path, pause_s: float) -> None:
    """Play the company until we are told to stop."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    peers, client = Peers(COMPANY), Client(url, key_file)
    runner = await peers.start()
    print(f"quickstart: receivers at http://127.0.0.1:{peers.port}/", flush=True)
    playing = asyncio.create_task(play(client, peers.port, pause_s))
    try:
        await asyncio.wait([playing, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        await client.close()
        await runner.cleanup()
    if not playing.cancelled():
        playing.result()  # it never ends by itself: this raises what ended it


async def play(client: Client, port: int, pause_s: float) -> None:
    """Register, then send; start over whenever the control plane is away or no longer knows us."""
    numbers, said, patient_until = count(), "", time.monotonic() + PATIENCE_S
    while True:
        try:
            if reason := await why_not(client):
                print(f"quickstart: nothing is registered or sent: {reason}", flush=True)
                await asyncio.Event().wait()
            await register(client, port)
            while True:
                number = next(numbers)
                await client.post("messages/", next_message(number))
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5) * (1 if number < LIVELY else QUIET))
        except (OSError, Refused) as exc:
            # Once per trouble, not once per try; that we were started together is no trouble.
            if str(exc) != said and time.monotonic() > patient_until:
                said = str(exc)
                print(f"quickstart: waiting: {said}", flush=True)
            await asyncio.sleep(WAIT_S)


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
