"""What the cases of a run share, and how a run tells of itself while it goes on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import structlog
from django.db import InterfaceError, OperationalError

from endpoints.access.principal import Principal
from endpoints.edge.database_threads import DatabaseThreads
from testing.models import Run, Verdict
from testing.runner.plan import Instance
from testing.runner.recorder import Recorder
from testing.runner.results import CaseResult
from testing.runner.scope import Values
from testing.runner.tools import RunTools

T = TypeVar("T")
TRIES, AGAIN_S = 10, 1.0

log = structlog.get_logger(__name__)

Listener = Callable[[CaseResult], None]


@dataclass
class Progress:
    """What a page or a terminal shows while it runs."""

    total: int = 0
    done: int = 0
    running: dict[int, str] = field(default_factory=dict)


@dataclass
class Round:
    """What all cases of a run share."""

    values: Values
    tools: RunTools
    recorder: Recorder
    at_once: int


def blocked(instance: Instance, by: str, verdict: Verdict) -> CaseResult:
    cause = f"needs '{by}', which {'was ' if verdict in ('skipped', 'blocked', 'cancelled') else ''}{verdict}"
    return CaseResult(instance, Verdict.BLOCKED, cause, blocked_by=by)


def principal_of(run: Run) -> Principal:
    """Return who a run acts for: whoever started it, and sees what they saw then."""
    teams = None if run.team_ids is None else frozenset(run.team_ids)
    return Principal(label=run.created_by, role=run.role, via="run", team_ids=teams)


def told(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def patiently(database: DatabaseThreads, call: Callable[..., T], *arguments: object) -> T:
    """Ask the database; one that is away, or locked, is waited for, for a while."""
    for _ in range(TRIES):
        try:
            return await database.run(call, *arguments)
        except (OperationalError, InterfaceError) as exc:
            log.warning("run_waits_for_database", error=str(exc))
            await asyncio.sleep(AGAIN_S)
    return await database.run(call, *arguments)
