"""What the company's receivers got and how they stand: the page at `/`, and the switch that breaks one of them."""

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
class Standing:
    """How one system stands as a receiver; `broken` is the status it answers everything with, 0 while it works."""

    party: Party
    broken: int = 0
    accepted: int = 0
    refused: int = 0
    numbers: dict[str, "count[int]"] = field(default_factory=dict)

    async def answer(self, door: Door) -> int:
        """Return the status for the next message at this door, after the time it takes; 2xx means that it is taken."""
        await asyncio.sleep(door.delay_s)
        number = next(self.numbers.setdefault(door.interface, count(1)))
        status = self.broken or (503 if door.fails_every and number % door.fails_every == 0 else 200)
        if status < 300:
            self.accepted += 1
        else:
            self.refused += 1
        return status


class Board:
    """One local web server: `/` shows, `/<system>/break` breaks; receivers over HTTP have their paths here, too."""

    def __init__(self, company: tuple[Party, ...]) -> None:
        self.standings = {party.slug: Standing(party) for party in company if party.doors}
        self.arrived: deque[tuple[float, str, str, str, int, str]] = deque(maxlen=KEPT)
        self.port = 0
        self.app = web.Application(client_max_size=BODY_LIMIT)
        self.app.add_routes(
            [
                web.get("/", self._page),
                web.get("/received", self._page),
                web.post("/{system}/break", self._break),
                web.post("/{system}/heal", self._heal),
            ]
        )

    async def start(self) -> web.AppRunner:
        """Listen at the first free of the usual ports, or at any; return what to clean up."""
        runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await self._listen(runner)
        return runner

    async def take(self, party: Party, door: Door, event: str, attempt: object, body: bytes) -> int:
        """Note what arrived at a door and return the status that answers it."""
        status = await self.standings[party.slug].answer(door)
        text = body[:200].decode("utf-8", "replace")
        self.arrived.appendleft((time.time(), f"{party.slug}/{door.interface}", event, str(attempt), status, text))
        return status

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
        standing = self.standings.get(request.match_info["system"])
        if standing is None:
            raise web.HTTPNotFound(text=f"systems here: {', '.join(self.standings)}\n")
        standing.broken = status
        if "text/html" in request.headers.get("Accept", ""):
            raise web.HTTPSeeOther("/")
        return web.Response(text=f"{standing.party.slug} {f'now answers {status}' if status else 'works again'}\n")


STYLE = """
:root { color-scheme: light dark }
body { font: 14px system-ui; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
td, th { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884 }
code { font-size: 12px; word-break: break-all } form { display: inline } .bad { color: #d33 }
"""


def page(board: Board) -> str:
    """Return the page that shows the receivers and what arrived last."""
    systems = "".join(_system_row(standing) for standing in board.standings.values())
    arrived = "".join(_arrived_row(*row) for row in board.arrived)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="3">
<meta name="viewport" content="width=device-width"><title>Quickstart receivers</title><style>{STYLE}</style>
<h1>Quickstart receivers</h1><p>Break one and watch its deliveries wait, retry and arrive once it is healed:
<code>curl -X POST http://127.0.0.1:{board.port}/erp/break</code></p>
<table><tr><th>System<th>Over<th>State<th>Accepted<th>Refused<th></tr>{systems}</table>
<h2>Arrived last</h2>
<table><tr><th>Time<th>At<th>Event<th>Attempt<th>Answer<th>Body</tr>{arrived}</table></html>"""


def _system_row(standing: Standing) -> str:
    action, words = ("heal", "Heal") if standing.broken else ("break", "Break")
    state = f'<span class="bad">answers {standing.broken}</span>' if standing.broken else "works"
    over = ", ".join(sorted({door.protocol for door in standing.party.doors}))
    return (
        f"<tr><td>{standing.party.slug}<td>{over}<td>{state}<td>{standing.accepted}<td>{standing.refused}"
        f'<td><form method="post" action="/{standing.party.slug}/{action}"><button>{words}</button></form></tr>'
    )


def _arrived_row(at: float, door: str, event: str, attempt: str, status: int, body: str) -> str:
    cells = (time.strftime("%H:%M:%S", time.localtime(at)), door, event, attempt)
    plain = "".join(f"<td>{html.escape(cell)}" for cell in cells)
    css = "" if status < 300 else ' class="bad"'
    return f"<tr>{plain}<td{css}>{status}<td><code>{html.escape(body)}</code></tr>"
