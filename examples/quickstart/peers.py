"""The company's receivers: one local web server that plays all of them, shows what arrived, and can be broken."""

import asyncio
import html
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import count

from aiohttp import web

from examples.quickstart.company import Door, Party

FIRST_PORT = 8101
PORTS = 10
KEPT = 100
BODY_LIMIT = 32 * 1024 * 1024


@dataclass
class Peer:
    """One system as a receiver; `broken` is the status it answers everything with, 0 while it works."""

    party: Party
    broken: int = 0
    accepted: int = 0
    refused: int = 0
    numbers: dict[str, "count[int]"] = field(default_factory=dict)

    async def answer(self, door: Door) -> int:
        """Return the status for the next request at this door, after the time it takes."""
        await asyncio.sleep(door.delay_s)
        number = next(self.numbers.setdefault(door.interface, count(1)))
        status = self.broken or (503 if door.fails_every and number % door.fails_every == 0 else 200)
        if status < 300:
            self.accepted += 1
        else:
            self.refused += 1
        return status


class Peers:
    """All receivers behind one port: `/<system>/<interface>` receives, `/` shows, `/<system>/break` breaks."""

    def __init__(self, company: tuple[Party, ...]) -> None:
        self.peers = {party.slug: Peer(party) for party in company if party.doors}
        self.arrived: deque[tuple[float, str, str, str, int, str]] = deque(maxlen=KEPT)
        self.port = 0

    async def start(self) -> web.AppRunner:
        """Listen at the first free of the usual ports, or at any; return what to clean up."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/received", self._page),
                web.post("/{system}/break", self._break),
                web.post("/{system}/heal", self._heal),
                *(
                    web.route("*", f"/{peer.party.slug}/{door.interface}", self._receiver(peer, door))
                    for peer in self.peers.values()
                    for door in peer.party.doors
                ),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await self._listen(runner)
        return runner

    async def _listen(self, runner: web.AppRunner) -> None:
        for port in (*range(FIRST_PORT, FIRST_PORT + PORTS), 0):
            site = web.TCPSite(runner, "127.0.0.1", port)
            try:
                await site.start()
            except OSError:
                continue  # taken
            self.port = runner.addresses[0][1]
            return
        raise OSError("no port to listen at")

    def _receiver(self, peer: Peer, door: Door) -> "Receiver":
        return Receiver(self, peer, door)

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=page(self), content_type="text/html")

    async def _break(self, request: web.Request) -> web.Response:
        status = request.query.get("status", "500")
        if not status.isascii() or not status.isdigit() or not 300 <= int(status) <= 599:
            raise web.HTTPBadRequest(text="status: a number from 300 to 599\n")
        return self._switch(request, int(status))

    async def _heal(self, request: web.Request) -> web.Response:
        return self._switch(request, 0)

    def _switch(self, request: web.Request, status: int) -> web.Response:
        peer = self.peers.get(request.match_info["system"])
        if peer is None:
            raise web.HTTPNotFound(text=f"systems here: {', '.join(self.peers)}\n")
        peer.broken = status
        if "text/html" in request.headers.get("Accept", ""):
            raise web.HTTPSeeOther("/")
        return web.Response(text=f"{peer.party.slug} {f'now answers {status}' if status else 'works again'}\n")


@dataclass(frozen=True)
class Receiver:
    """Takes the requests of one door."""

    peers: Peers
    peer: Peer
    door: Door

    async def __call__(self, request: web.Request) -> web.Response:
        if request.method in ("GET", "HEAD"):  # somebody asks whether we are there
            return web.Response(status=self.peer.broken or 200)
        body = await request.read()
        status = await self.peer.answer(self.door)
        self.peers.arrived.appendleft(
            (
                time.time(),
                f"{self.peer.party.slug}/{self.door.interface}",
                request.headers.get("x-event-type", ""),
                request.headers.get("x-attempt", ""),
                status,
                body[:200].decode("utf-8", "replace"),
            )
        )
        return web.json_response({"ok": status < 300}, status=status)


STYLE = """
:root { color-scheme: light dark }
body { font: 14px system-ui; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
td, th { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884 }
code { font-size: 12px; word-break: break-all } form { display: inline } .bad { color: #d33 }
"""


def page(peers: Peers) -> str:
    """Return the page that shows the receivers and what arrived last."""
    systems = "".join(_system_row(peer) for peer in peers.peers.values())
    arrived = "".join(_arrived_row(*row) for row in peers.arrived)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="3">
<meta name="viewport" content="width=device-width"><title>Quickstart receivers</title><style>{STYLE}</style>
<h1>Quickstart receivers</h1><p>Break one and watch its deliveries wait, retry and arrive once it is healed:
<code>curl -X POST http://127.0.0.1:{peers.port}/erp/break</code></p>
<table><tr><th>System<th>State<th>Accepted<th>Refused<th></tr>{systems}</table>
<h2>Arrived last</h2>
<table><tr><th>Time<th>At<th>Event<th>Attempt<th>Answer<th>Body</tr>{arrived}</table></html>"""


def _system_row(peer: Peer) -> str:
    action, words = ("heal", "Heal") if peer.broken else ("break", "Break")
    state = f'<span class="bad">answers {peer.broken}</span>' if peer.broken else "works"
    return (
        f"<tr><td>{peer.party.slug}<td>{state}<td>{peer.accepted}<td>{peer.refused}"
        f'<td><form method="post" action="/{peer.party.slug}/{action}"><button>{words}</button></form></tr>'
    )


def _arrived_row(at: float, door: str, event: str, attempt: str, status: int, body: str) -> str:
    cells = (time.strftime("%H:%M:%S", time.localtime(at)), door, event, attempt)
    plain = "".join(f"<td>{html.escape(cell)}" for cell in cells)
    css = "" if status < 300 else ' class="bad"'
    return f"<tr>{plain}<td{css}>{status}<td><code>{html.escape(body)}</code></tr>"
