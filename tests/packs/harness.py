"""The mutation table of a pack: each row breaks its target in one stated way and names the cases that must tell.

MUTATIONS = (
    Mutation("http-unhealthy", ("http-is-healthy",), "status: expected 200, got 503"),
)

def test_...(run_pack, admin):
    with Served(CommunicationServer(free_port())) as served:
        register(admin, "communication", f"http://127.0.0.1:{served.server.port}")
        hold_to_table(run_pack, "communication", served, SWITCHES, MUTATIONS)
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from examples.serving import Server
from testing.packs.documents import find
from tests.servers.threads import InThread
from tests.testing.conftest import Outcome

RunPack = Callable[..., Outcome]


@dataclass(frozen=True)
class Mutation:
    """`breaks` is a switch of the target; exactly `fails` must end as failed, and one of them says `says`.

    One that is `alone` is tried with no other: its cases would not run where others fail.
    """

    breaks: str
    fails: tuple[str, ...]
    says: str
    alone: bool = False


class Target(Protocol):
    """What can be broken: from `break_by(switch)` on it is so, and sound again after `break_by("")`.

    Several switches are given only where rows are tried `at_once`.
    """

    def break_by(self, *switches: str) -> None: ...


class Served(InThread):
    """An example server; a new start for every switch."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def break_by(self, *switches: str) -> None:
        self.stop()
        self.server.broken = set(switches) - {""}
        self.start()

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        await self.server.start()
        yield
        await self.server.stop()


def hold_to_table(
    run_pack: RunPack,
    name: str,
    target: Target,
    switches: Mapping[str, str],
    mutations: Sequence[Mutation],
    *args: str,
    quick: Mapping[str, str] | None = None,
    at_once: bool = False,
    are_quick: bool = False,
) -> None:
    """Assert that the sound target passes, and that each broken one fails in its cases and in no other.

    A case that waits for a failed one may be blocked. Every case must be failed by some
    row, and every switch be in some row: what cannot fail shows nothing. `args` go to
    `run_suite`. `quick` are variables for less waiting; a row that does not come out with
    them is tried once more without, since a busy machine may be late. With `at_once` rows that
    name different cases are tried in one run; when that does not come out, each by itself. With
    `are_quick` the rows that are `alone` are left to a longer test.
    """
    cases = {case.name for case in find(name).suite.cases}
    hurry = [f"--var={variable}={value}" for variable, value in (quick or {}).items()]
    target.break_by("")
    sound = run_pack(name, *args)
    assert (sound.code, sound.verdict, sound.not_passed) == (0, "passed", {}), sound.out
    assert set(sound.verdicts) - {"setup", "teardown"} == cases
    wrong = []
    tried = [row for row in mutations if not (are_quick and row.alone)]
    for rows in _apart(tried) if at_once else [[row] for row in tried]:
        target.break_by(*(row.breaks for row in rows))
        if not _differs(rows, run_pack(name, *args, *hurry)):
            continue
        for row in rows:
            target.break_by(row.breaks)
            if came := _differs([row], run_pack(name, *args)):
                wrong.append(f"{row.breaks}: stated {sorted(row.fails)}, '{row.says}'; came {came}")
    target.break_by("")
    assert not wrong, "\n".join(wrong)
    assert {case for row in mutations for case in row.fails} == cases, "a case that nothing fails shows nothing"
    assert {row.breaks for row in mutations} == set(switches), "a switch that is in no row"


def _apart(mutations: Sequence[Mutation]) -> list[list[Mutation]]:
    """Return the rows in as few groups as come by themselves, none of which names a case twice."""
    groups: list[list[Mutation]] = []
    for row in mutations:
        free = (group for group in groups if not any(set(row.fails) & set(other.fails) for other in group))
        group = None if row.alone else next((group for group in free if not group[0].alone), None)
        if group is None:
            groups.append([row])
        else:
            group.append(row)
    return groups


def _differs(rows: Sequence[Mutation], done: Outcome) -> str:
    """Return what came otherwise than stated, "" when nothing did."""
    failed = sorted(case for case, verdict in done.verdicts.items() if verdict == "failed")
    others = {case: verdict for case, verdict in done.not_passed.items() if verdict not in ("failed", "blocked")}
    said = {case: done.cases[case]["reason"] for case in failed}
    stated = sorted({case for row in rows for case in row.fails})
    is_said = all(any(row.says in said.get(case, "") for case in row.fails) for row in rows)
    if (failed, others, is_said, done.code) == (stated, {}, True, 1):
        return ""
    return f"exit code {done.code}, {said}, {others or done.out[-300:]}"
