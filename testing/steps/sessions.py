"""Lines that outlive a step: each has a name within its case, which closes them when it ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, cast

from endpoints.transports.conversation import Conversation
from testing.document.kinds import NAME, Field, text
from testing.steps.base import CannotRun, Tools

SESSION = Field(text(63, NAME), "A name: the line stays open for later steps of the case.")

C = TypeVar("C", bound=Conversation)


class Session:
    """A line with a name, or one of a step's own; `is_busy` while a step uses it."""

    def __init__(self) -> None:
        self.line: Conversation | None = None
        self.is_busy = True

    async def aclose(self) -> None:
        if self.line is not None:
            await self.line.aclose()


class Spare:
    """Lines that the iterations of a load take turns with: each is one iteration's at a time."""

    def __init__(self) -> None:
        self._lines: list[Conversation] = []

    async def take(self, opening: Callable[[], Awaitable[C]]) -> tuple[C, bool]:
        """Return (line, whether it is new); whoever takes one gives it back or closes it."""
        while self._lines:
            line = self._lines.pop()
            if line.inbox.fault is None:
                return cast(C, line), False
            await line.aclose()
        return await opening(), True

    def give_back(self, line: Conversation) -> None:
        self._lines.append(line)

    async def aclose(self) -> None:
        await asyncio.gather(*(line.aclose() for line in self._lines))
        self._lines.clear()


@asynccontextmanager
async def borrowed(
    tools: Tools, key: tuple[str, ...], name: str | None, opening: Callable[[], Awaitable[C]], *, anew: bool = False
) -> AsyncIterator[tuple[C, bool]]:
    """Lend (line, whether it is new): that of the session `name`, or one that is closed behind the step.

    Raises CannotRun when another step uses the session, and what `opening` raises.
    """
    known = (*key, name or "")
    session = tools.sessions.get(known) if name else None
    if session is not None and session.is_busy:
        raise CannotRun(f"session '{name}' is in use by another step")
    if session is not None and anew:
        await session.aclose()
        session = None
    if is_new := session is None:
        session = Session()
        if name:
            tools.sessions[known] = session
    session.is_busy = True
    try:
        if session.line is None:
            session.line = await opening()
        yield cast(C, session.line), is_new
    finally:
        session.is_busy = False
        if session.line is None and name:
            del tools.sessions[known]
        if not name:
            await session.aclose()


def has_session(tools: Tools, key: tuple[str, ...], name: str | None) -> bool:
    """Say whether a session of that name is there."""
    return bool(name) and (*key, name or "") in tools.sessions
