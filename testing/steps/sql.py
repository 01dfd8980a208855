"""`sql:` statements to a PostgreSQL endpoint, as one transaction that is read-only unless it says `write: true`."""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from endpoints.transports.base import TransportError
from endpoints.transports.postgresql import ISOLATION, Asked, PostgresqlTransport, TooMuch
from testing.assertions.observation import Observation
from testing.document.kinds import ANYTHING, BOOLEAN, DURATION_S, Field, Kind, ListOf, Shape, choice, integer, text
from testing.steps.asking import not_answered, speaker
from testing.steps.base import CannotRun, StepAction, Tools

STATEMENT = text(64 * 1024)
ARGS = ListOf(ANYTHING, at_most=100)


class SqlStep(StepAction):
    """`rows` are those of the last statement, `status` its command tag (`UPDATE 3`), `error.code` the SQLSTATE.

    What the server refuses is no answer, so that only an assertion about the error passes over it.
    """

    SHAPE: ClassVar[Kind] = Shape(
        {
            "system": Field(text(63), "The alias of the system to ask.", required=True),
            "query": Field(STATEMENT, "One statement; %s stands for each of args."),
            "args": Field(ARGS, "Values, bound by the server. With them a % of the query's own is written %%."),
            "transaction": Field(
                ListOf(
                    Shape(
                        {
                            "query": Field(STATEMENT, "One statement.", required=True),
                            "args": Field(ARGS, "Its values."),
                        },
                        short="query",
                    ),
                    at_least=1,
                    at_most=100,
                ),
                "Several statements instead of one query, all or none of which are kept.",
            ),
            "write": Field(BOOLEAN, "Let it change something.", default=False),
            "rollback": Field(BOOLEAN, "Undo at the end what it changed.", default=False),
            "isolation": Field(choice(*ISOLATION, fixed=False), default=ISOLATION[0]),
            "limit": Field(integer(1, 10_000), "With more rows than this it cannot be judged.", default=1000),
            "statement_timeout": Field(DURATION_S, "How long the server lets one statement run.", default=25.0),
        },
        one_of=("query", "transaction"),
    )
    SUBJECTS: ClassVar[tuple[str, ...]] = ("rows", "status", "latency", "error")
    ALIASES: ClassVar[tuple[str, ...]] = ("system",)

    def writes(self, params: Any) -> bool:
        return bool(params["write"])

    async def run(self, params: Any, tools: Tools) -> Observation:
        transport = await speaker(tools, params["system"], PostgresqlTransport, "postgresql")
        started = time.perf_counter()
        try:
            found = await transport.ask(_asked(params))
        except TooMuch as exc:
            raise CannotRun(str(exc)) from exc
        except TransportError as exc:
            seen = not_answered(exc)
            seen.latency_ms = (time.perf_counter() - started) * 1000
        else:
            seen = Observation(latency_ms=found.took_ms, status=found.command, rows=found.rows)
        seen.request = _request(params)
        return seen


def _asked(params: Mapping[str, Any]) -> Asked:
    written = params["transaction"] or [{"query": params["query"], "args": params["args"]}]
    return Asked(
        [(statement["query"], statement["args"]) for statement in written],
        write=params["write"],
        keeps=not params["rollback"],
        timeout_s=params["statement_timeout"],
        isolation=params["isolation"],
        most_rows=params["limit"],
    )


def _request(params: Mapping[str, Any]) -> dict[str, Any]:
    names = ("query", "args", "transaction", "write", "rollback")
    return {name: params[name] for name in names if params[name] not in (None, False)}
