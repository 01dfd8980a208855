"""The counter behind every way in: drafts are planned, stored with what others bring, and answered once durable."""

from collections.abc import Iterator, Sequence

from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError
from messaging.intake.commit import Accepted, Answer
from messaging.intake.directory import Party, find_broadcast, find_parties
from messaging.intake.envelope import Draft
from messaging.intake.fields import BROADCAST
from messaging.intake.plan import Planned, plan_or_error, slugs_of
from messaging.intake.writer import Writer


class Intake:
    """One per process, over its writer. Whether the caller may send at all is for its door to ask, before it reads."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

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
        planned = await self._plan(drafts, principal)
        stored: Iterator[Answer] = iter(())
        if good := [item for item in planned if isinstance(item, Planned)]:
            stored = iter(await self._writer.submit_patiently(good, principal.label, patience_s))
        answers = [item if isinstance(item, ControlPlaneError) else next(stored) for item in planned]
        unstored = [item for item in answers if isinstance(item, ControlPlaneError) and item.status >= 500]
        if len(unstored) == len(answers):
            raise unstored[0]
        return answers

    async def _plan(
        self, drafts: Sequence[Draft | ControlPlaneError], principal: Principal
    ) -> list[Planned | ControlPlaneError]:
        good = [draft for draft in drafts if isinstance(draft, Draft)]
        parties = await find_parties(set().union(*[slugs_of(draft, principal) for draft in good]))
        is_broadcast = any(BROADCAST in (draft.target_system or ()) for draft in good)
        broadcast = await find_broadcast() if is_broadcast else []
        return [plan_or_error(draft, principal, parties, broadcast) for draft in drafts]
