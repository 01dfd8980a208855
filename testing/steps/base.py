"""The contract of every kind of step, on one screen: take params, do one thing, return what was seen.

A step never judges, retries or waits for its own outcome: assertions, polls and
timeouts are the runner's. What goes wrong at the other side is an Observation with its
`error_class`; what we could not even begin raises CannotRun.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from endpoints.access.principal import Principal
from endpoints.transports.base import Transport
from testing.assertions.observation import Observation
from testing.document.kinds import Kind

T = TypeVar("T")


class CannotRun(Exception):
    """The step could not be judged, for a reason of ours."""

    def __init__(self, detail: str, error_class: str = "internal") -> None:
        super().__init__(detail)
        self.detail, self.error_class = detail, error_class


@dataclass(frozen=True, slots=True)
class Party:
    """A system behind an alias: `target` reads system/interface."""

    slug: str
    target: str
    is_production: bool
    allows_load: bool = True


class Tools(Protocol):
    """What the runner lends to a step."""

    principal: Principal
    # What a step keeps open for later ones, by kind, alias and name; closed when the case ends, or runs again.
    sessions: dict[tuple[str, ...], Any]

    def party(self, alias: str) -> Party:
        """Return the system behind an alias; raises CannotRun."""

    async def transport(self, alias: str, *, with_credential: bool = True) -> Transport:
        """Return the open transport to an alias, shared within the run; raises CannotRun."""

    async def ask_database(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run a call that blocks, in a thread with a connection of its own."""

    async def ask_leave_unnamed(self) -> None:
        """Raise CannotRun where a step must not reach what it does not name."""

    async def run_steps(self, steps: Sequence[Any], *, at_once: bool) -> None:
        """Run steps within a step; what comes of them is theirs."""

    async def run_called(
        self, suite: str, case: str, given: Mapping[str, Any], systems: Mapping[str, str]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Run the steps of another case; return what they captured, and what to record; raises CannotRun."""


class StepAction(ABC):
    """One kind of step; it keeps nothing between two of them.

    `SHAPE` is what stands in the document. `SUBJECTS` are the first words of what can be
    asserted of it; with none there is nothing to assert. `ALIASES` are params that name a
    system. With `FILLS` false, params are handed over with their references unread. One that
    `JUDGES` tells by itself whether it went well, and so needs no assertion. One that `REPEATS`
    can work out beforehand what stays the same in a load, and needs no case around it for that.
    """

    SHAPE: ClassVar[Kind]
    SUBJECTS: ClassVar[tuple[str, ...]] = ()
    ALIASES: ClassVar[tuple[str, ...]] = ()
    FILLS: ClassVar[bool] = True
    JUDGES: ClassVar[bool] = False
    REPEATS: ClassVar[bool] = False

    def writes(self, params: Any) -> bool:
        """Say whether it may change something at the systems it names: production asks for leave first."""
        return False

    def aliases(self, params: Any) -> list[str]:
        """Return the aliases that its params name."""
        return [params[name] for name in self.ALIASES if params.get(name)] if isinstance(params, Mapping) else []

    def names_all(self, params: Any) -> bool:
        """Say whether it changes nothing but the systems it names; else leave is asked for what it may reach."""
        return True

    @abstractmethod
    async def run(self, params: Any, tools: Tools) -> Observation:
        """Do it once, and return what was seen; raises CannotRun."""

    async def repeated(self, params: Any, tools: Tools, timeout_s: float) -> Callable[[], Awaitable[Observation]]:
        """Return what does the same as `run` again and again; asked only of a kind that `REPEATS`."""
        raise NotImplementedError
