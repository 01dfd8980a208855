"""Keeps the registered listeners open: follows the table, opens, closes and moves them, and reports on them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from messaging.engine.database import Database
from messaging.intake.counter import Intake
from messaging.listening import reporting, rows
from messaging.listening.devices import DeviceConnection
from messaging.listening.envelopes import EnvelopeConnection
from messaging.listening.limits import Held
from messaging.listening.rows import Place, Row
from messaging.listening.tally import Tally
from messaging.listening.tcp import TcpServer
from messaging.listening.tls import server_context
from messaging.listening.udp import UdpServer

log = structlog.get_logger(__name__)

LOOK_S = 1.5
RETRY_S = 5.0


@dataclass(slots=True)
class Open:
    """One address that is to be served: its rows, and the server or why there is none."""

    rows: list[Row]
    server: TcpServer | UdpServer | None = None
    problem: str = ""
    tried_at: float = 0.0
    tallies: dict[UUID, Tally] = field(default_factory=dict)


class House:
    """All listeners of this process; `run` until `stop`."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._held = Held()
        self._open: dict[Place, Open] = {}
        self._unreadable: dict[UUID, str] = {}
        self._stamp: Any = None
        self._stopping = asyncio.Event()
        self._database = Database("listeners")
        self._reporter = reporting.Reporter()

    def stop(self) -> None:
        """End: what came is stored and answered first."""
        self._stopping.set()

    async def run(self) -> None:
        """Follow the table until stopped; while the database is away everything stays as it is."""
        try:
            while not self._stopping.is_set():
                await self._look()
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._stopping.wait()
                except TimeoutError:
                    continue
        finally:
            await asyncio.gather(*(one.server.aclose() for one in self._open.values() if one.server is not None))
            await self._database.call(self._reporter.leave)
            await self._database.close()

    async def _look(self) -> None:
        stamp = await self._database.call(rows.glance)
        if stamp is not None and stamp != self._stamp:
            found = await self._database.call(rows.load)
            if found is not None:
                wanted, self._unreadable = found
                self._stamp = stamp
                await self._follow(wanted)
        now = asyncio.get_running_loop().time()
        for place, one in self._open.items():
            if one.server is None and now - one.tried_at >= RETRY_S:
                await self._try(place, one)
        await self._report()

    async def _follow(self, wanted: dict[Place, list[Row]]) -> None:
        """Close what is not wanted any more, or not so; then open what is new: what moves needs its port free."""
        changed = [place for place, one in self._open.items() if wanted.get(place) != one.rows]
        gone = [self._open.pop(place) for place in changed]
        await asyncio.gather(*(one.server.aclose() for one in gone if one.server is not None))
        tallies = {key: tally for one in gone for key, tally in one.tallies.items()}
        for place, found in wanted.items():
            if place not in self._open:
                self._open[place] = one = Open(found)
                # Counts go on, wherever a listener moves to.
                one.tallies = {row.id: tallies.get(row.id) or Tally(row.slug) for row in found}
                await self._try(place, one)

    async def _try(self, place: Place, one: Open) -> None:
        """Open one address, or note why not."""
        kind, host, port = place
        one.tried_at = asyncio.get_running_loop().time()
        first = one.rows[0]
        tally = one.tallies[first.id]
        devices = [(row.device, one.tallies[row.id]) for row in one.rows if row.device is not None]
        try:
            if kind == "udp":
                datagrams = UdpServer(self._intake, tally, devices)
                await datagrams.open(host, port)
                one.server = datagrams
            else:
                tls = server_context(*first.tls) if first.tls else None
                make = (lambda server: DeviceConnection(server, devices)) if devices else EnvelopeConnection
                server = TcpServer(
                    self._intake,
                    tally,
                    framing=first.framing,
                    config=dict(first.config),
                    held=self._held,
                    make=make,
                )
                await server.open(host, port, tls)
                one.server = server
        except (OSError, ValueError) as exc:
            told = getattr(exc, "strerror", None) or str(exc)
            problem = f"cannot listen on {host}:{port}: {told}"[:300]
            if problem != one.problem:
                log.error("listener_failed", listener=first.slug, error=problem)
            one.problem = problem
            return
        one.problem = ""
        log.info("listener_open", listener=first.slug, address=f"{kind}://{host}:{port}")

    async def _report(self) -> None:
        """Write down what is seen, where it changed and was not written for a while."""
        seen: dict[UUID, tuple[Tally, str]] = {}
        for one in self._open.values():
            if isinstance(one.server, UdpServer):
                one.server.look()
            seen |= {key: (tally, one.problem) for key, tally in one.tallies.items()}
        seen |= {key: (Tally(""), problem) for key, problem in self._unreadable.items()}
        if due := self._reporter.due(seen):
            await self._database.call(self._reporter.write, due)
