"""The counter behind every way in: drafts are planned, stored with what others bring, and answered once durable."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from endpoints.access.principal import Principal
from endpoints.edge.apart import LONG, apart
from endpoints.errors import ControlPlaneError
from messaging.intake.commit import Accepted, Answer
from messaging.intake.directory import DIRECTORY, Party, find_broadcast, find_parties
from messaging.intake.envelope import Draft
from messaging.intake.fields import BROADCAST
from messaging.intake.plan import Planned, effort_of_all, outline, outline_or_error, slugs_of, take_all_keys
from messaging.intake.writer import Writer


@dataclass(frozen=True, slots=True)
class HandedIn:
    """Drafts on their way: some may be refused already, the others are durable once `stored` is done."""

    planned: Sequence[Planned | ControlPlaneError]
    stored: "asyncio.Future[list[Answer]]"

    def answers(self) -> list[Answer]:
        """Return an answer for each draft, in order; call it when `stored` is done."""
        stored = iter(self.stored.result())
        return [item if isinstance(item, ControlPlaneError) else next(stored) for item in self.planned]


class Intake:
    """One per process, over its writer. Whether the caller may send at all is for its door to ask, before it reads."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def begin_one(self, draft: Draft, principal: Principal) -> "asyncio.Future[list[Answer]] | None":
        """Return the answer to come, or None when something has to be looked up, or through, first.

        Raises what the sender must be told.
        """
        parties = DIRECTORY.remembered_all(slugs_of(draft, principal))
        if parties is None or BROADCAST in (draft.target_system or ()):
            return None
        planned = outline(draft, principal, parties, [])
        if planned.source.search_keys:
            if effort_of_all((planned,)) > LONG:
                return None
            take_all_keys((planned,))
        return self._writer.submit((planned,), principal.label)

    async def accept_one(self, draft: Draft, principal: Principal) -> tuple[Accepted, Party]:
        """Return the answer once durable, and who sent it; raises what the sender must be told."""
        planned = (await self._plan([draft], principal))[0]
        if isinstance(planned, ControlPlaneError):
            raise planned
        answer = (await self._writer.submit((planned,), principal.label))[0]
        if isinstance(answer, ControlPlaneError):
            raise answer
        return answer, planned.source

    async def accept(
        self, drafts: Sequence[Draft | ControlPlaneError], principal: Principal, patience_s: float = 0.0
    ) -> list[Answer]:
        """Return an answer for each draft, in order; those that cannot be stored are answered, not raised.

        Waits for room for `patience_s`; raises Overloaded or LimitExceeded when there was none, and what
        kept all of them from being stored.
        """
        handed = await self.hand_in(drafts, principal, patience_s)
        await handed.stored
        stored = handed.stored.result()  # of those that could be planned: what is refused anyway proves nothing
        unstored = [item for item in stored if isinstance(item, ControlPlaneError) and item.status >= 500]
        if stored and len(unstored) == len(stored):
            raise unstored[0]
        return handed.answers()

    async def hand_in(
        self, drafts: Sequence[Draft | ControlPlaneError], principal: Principal, patience_s: float = 0.0
    ) -> "HandedIn":
        """Return as soon as the drafts have their place in line: what is handed in after them is stored after them.

        Waits for room for `patience_s`; raises Overloaded or LimitExceeded when there was none.
        """
        planned = await self._plan(drafts, principal)
        good = [item for item in planned if isinstance(item, Planned)]
        if good:
            return HandedIn(planned, await self._writer.submit_when_room(good, principal.label, patience_s))
        nothing: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        nothing.set_result([])
        return HandedIn(planned, nothing)

    async def _plan(
        self, drafts: Sequence[Draft | ControlPlaneError], principal: Principal
    ) -> list[Planned | ControlPlaneError]:
        good = [draft for draft in drafts if isinstance(draft, Draft)]
        parties = await find_parties(set().union(*[slugs_of(draft, principal) for draft in good]))
        is_broadcast = any(BROADCAST in (draft.target_system or ()) for draft in good)
        broadcast = await find_broadcast() if is_broadcast else []
        planned = [outline_or_error(draft, principal, parties, broadcast) for draft in drafts]
        indexed = [item for item in planned if isinstance(item, Planned) and item.source.search_keys]
        if effort_of_all(indexed) > LONG:
            await apart(take_all_keys, indexed)
        else:
            take_all_keys(indexed)
        return planned
