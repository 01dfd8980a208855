"""What the runner lends to its steps: systems behind aliases, open transports, a database thread."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import structlog

from endpoints.access.principal import Principal
from endpoints.edge.database_threads import DatabaseThreads
from endpoints.models import Stage, System
from endpoints.transports import make_transport
from endpoints.transports.base import Transport
from testing.runner.frames import Library, target_name
from testing.runner.masking import Masker
from testing.runner.targets import Target
from testing.steps.base import CannotRun, Party

T = TypeVar("T")
DATABASE_THREADS = 4
CLOSE_S = 10.0

log = structlog.get_logger(__name__)


class RunTools:
    """Shared by all cases of a run; `aclose` when it is over."""

    def __init__(
        self,
        targets: Mapping[str, Target],
        principal: Principal,
        library: Library,
        masker: Masker,
        *,
        at_once: int,
        allow_production: bool,
    ) -> None:
        self.principal, self.library, self.allow_production = principal, library, allow_production
        self.masker, self._targets, self._at_once = masker, targets, at_once
        self._transports: dict[tuple[str, bool], asyncio.Future[Transport]] = {}
        self._database = DatabaseThreads("steps", DATABASE_THREADS)

    def party(self, alias: str) -> Party:
        return self._target(alias).party

    async def transport(self, alias: str, *, with_credential: bool = True) -> Transport:
        key = (alias, with_credential)
        if key not in self._transports:
            self._transports[key] = asyncio.ensure_future(self._open(alias, with_credential=with_credential))
        return await asyncio.shield(self._transports[key])

    async def ask_database(self, call: Callable[..., T], *arguments: Any) -> T:
        return await self._database.run(call, *arguments)

    async def ask_leave_unnamed(self) -> None:
        """Raise CannotRun without leave for production, once there is a production system that could be reached."""
        if not self.allow_production and await self.ask_database(_has_production):
            raise CannotRun(
                "it does not name what it reaches, which could be a production system;"
                " name it (to, systems), or give --allow-production"
            )

    async def aclose(self) -> None:
        """Close what was opened."""
        opened = []
        for opening in self._transports.values():
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                opened.append(opening.result())
            opening.cancel()
        await close_all(opened)
        await asyncio.to_thread(self._database.shutdown)

    def for_load(self, at_once: int) -> "RunTools":
        """Return the same for one load: connections of its own, as many as it asks for, to systems that allow it."""
        lent = (self._targets, self.principal, self.library, self.masker)
        return LoadTools(*lent, at_once=at_once, allow_production=self.allow_production)

    async def _open(self, alias: str, *, with_credential: bool) -> Transport:
        target = self._target(alias)
        if target.address is None:
            raise CannotRun(target.fault)
        # As many at once as the suite asks for: a test that queues behind a delivery cap measures the cap.
        address = replace(target.address, max_in_flight=max(self._at_once, target.address.max_in_flight))
        if not with_credential:
            address = replace(address, credential=None, client_credential=None)
        transport = make_transport(address)
        await transport.open()
        return transport

    def _target(self, alias: str) -> Target:
        if alias not in self._targets:
            raise CannotRun(f"there is no system '{alias}' in this suite; there are {', '.join(self._targets)}")
        return self._targets[alias]


class LoadTools(RunTools):
    """Those of a load, which goes past the caps that deliveries keep, and so needs leave whatever it does."""

    async def ask_leave_unnamed(self) -> None:
        raise CannotRun("under load a step has to name what it reaches (to, systems): it may not allow load")

    def _target(self, alias: str) -> Target:
        target = super()._target(alias)
        party = target.party
        if not party.allows_load:
            raise CannotRun(f"'{party.slug}' does not allow load; set allow_load on the system")
        if party.is_production and not self.allow_production:
            raise CannotRun(f"'{party.slug}' is a production system; load there needs --allow-production")
        return target


def _has_production() -> bool:
    return System.objects.filter(environment=Stage.PRODUCTION).exists()


class CaseTools:
    """The same for one case, which alone can run steps within a step."""

    def __init__(
        self,
        tools: RunTools,
        run_inner: Callable[..., Coroutine[Any, Any, None]],
        run_called: Callable[..., Coroutine[Any, Any, tuple[Mapping[str, Any], Mapping[str, Any]]]],
    ) -> None:
        self._tools, self._run_inner, self._run_called = tools, run_inner, run_called
        self.principal = tools.principal
        self.sessions: dict[tuple[str, ...], Any] = {}

    def party(self, alias: str) -> Party:
        return self._tools.party(target_name(alias))

    async def transport(self, alias: str, *, with_credential: bool = True) -> Transport:
        return await self._tools.transport(target_name(alias), with_credential=with_credential)

    async def ask_database(self, call: Callable[..., T], *arguments: Any) -> T:
        return await self._tools.ask_database(call, *arguments)

    async def ask_leave_unnamed(self) -> None:
        await self._tools.ask_leave_unnamed()

    async def run_steps(self, steps: Sequence[Any], *, at_once: bool) -> None:
        await self._run_inner(steps, at_once=at_once)

    async def aclose(self) -> None:
        """Close what the case kept open."""
        kept, self.sessions = list(self.sessions.values()), {}
        await close_all(kept)

    async def run_called(
        self, suite: str, case: str, given: Mapping[str, Any], systems: Mapping[str, str]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return await self._run_called(suite, case, given, systems)


async def close_all(opened: Iterable[Any]) -> None:
    """Close all of them; one that breaks, or takes too long, keeps nothing else open."""
    closing = [asyncio.ensure_future(one.aclose()) for one in opened]
    if not closing:
        return
    done, late = await asyncio.wait(closing, timeout=CLOSE_S)
    for task in late:
        task.cancel()
    for error in [task.exception() for task in done if not task.cancelled()]:
        if error is not None:
            log.warning("line_not_closed", error=type(error).__name__)
    if late:
        log.warning("lines_close_too_slowly", count=len(late))
