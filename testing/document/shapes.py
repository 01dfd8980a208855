"""The tables of the format: which keys a suite has, what stands at each, and what it is for."""

from typing import Any

from endpoints.transports.base import ErrorClass
from testing.document.cron import read_cron, read_zone
from testing.document.kinds import (
    FIXED_BOOLEAN,
    FIXED_DURATION_S,
    SLUG,
    TARGET,
    VALUE,
    Field,
    ListOf,
    MapOf,
    Scalar,
    Shape,
    choice,
    integer,
    number,
    text,
)
from testing.document.load import LOAD
from testing.document.steps import STEP

MAX_CASES = 2000
MAX_STEPS = 200
TYPES = ("unit", "integration", "e2e", "performance", "security", "compatibility")
STEPS = ListOf(STEP, at_most=MAX_STEPS)


def _cron(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 100:
        raise ValueError("must be the five fields of a cron, as a text: '*/5 * * * *'")
    read_cron(value)
    return value


def _timezone(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 63:
        raise ValueError("must be the name of a time zone, such as Europe/Amsterdam")
    read_zone(value)
    return value


RETRY = Shape(
    {
        "max": Field(integer(1, 20, fixed=True), "How often it may run again.", required=True),
        "every": Field(FIXED_DURATION_S, "How long to wait before it.", default=0.0),
        "backoff": Field(number(1, 10, fixed=True), "By what the wait grows each time.", default=1),
        "if": Field(
            ListOf(choice(*[kind.value for kind in ErrorClass], "assertion", "any"), at_least=1),
            "For which reasons: error classes, `assertion`, or `any`.",
            default=["any"],
        ),
    }
)
LOCKS = ListOf(text(63, SLUG, fixed=True), at_most=20, or_one=True)
SCHEDULE = Shape(
    {
        "cron": Field(Scalar(_cron, {"type": "string", "maxLength": 100}, fixed=True), "Five fields.", required=True),
        "timezone": Field(
            Scalar(_timezone, {"type": "string", "maxLength": 63}, fixed=True), "Its clock.", default="UTC"
        ),
        "overlap": Field(
            choice("skip", "queue", "allow"), "When the run of an earlier tick still goes on.", default="skip"
        ),
        "missed": Field(
            choice("coalesce", "skip", "run"),
            "Ticks without a worker: one run for all, none, or one each.",
            default="coalesce",
        ),
    }
)
CASE = Shape(
    {
        "case": Field(text(63, SLUG, fixed=True), "The case's name, unique in the suite.", required=True),
        "needs": Field(ListOf(text(63, fixed=True)), "Cases that must have passed before.", default=[]),
        "locks": Field(LOCKS, "Names that one case of all runs holds at a time.", default=[]),
        "timeout": Field(FIXED_DURATION_S, "The longest it may take, its cleanups apart.", default=60.0),
        "retry": Field(RETRY, "Run the case again when it did not pass; a rescue marks it flaky."),
        "load": Field(LOAD, "Run the steps many times; each time is an iteration."),
        "steps": Field(ListOf(STEP, at_least=1, at_most=MAX_STEPS), "One after the other.", required=True),
    }
)
SUITE = Shape(
    {
        "suite": Field(text(63, SLUG, fixed=True), "The suite's slug.", required=True),
        "title": Field(text(200, fixed=True), "What it shows, in words.", default=""),
        "type": Field(choice(*TYPES), "What kind of test it is.", default="integration"),
        "labels": Field(ListOf(text(63, fixed=True), at_most=50), "Words to find it by.", default=[]),
        "systems": Field(
            MapOf(text(127, TARGET, fixed=True)),
            "alias: system or system/interface; replaceable at run time.",
            default={},
        ),
        "needs": Field(
            ListOf(
                Shape(
                    {
                        "suite": Field(text(63, SLUG, fixed=True), required=True),
                        "if": Field(choice("passed", "finished"), default="passed"),
                        "within": Field(FIXED_DURATION_S, "How old its last run may be."),
                    }
                ),
                at_most=50,
            ),
            "Other suites whose last verdict this one asks for.",
            default=[],
        ),
        "vars": Field(MapOf(VALUE), "Values for ${{ vars.name }}; replaceable at run time.", default={}),
        "matrix": Field(
            MapOf(ListOf(VALUE, at_least=1, at_most=50), at_most=5), "Each combination is a run.", default={}
        ),
        "data": Field(
            Shape(
                {
                    "rows": Field(ListOf(MapOf(VALUE), at_least=1, at_most=10_000), "Rows, each an object."),
                    "csv": Field(text(100, fixed=True), "A file beside the suite's, its first line the names."),
                    "pick": Field(choice("sequential", "random"), "In which order.", default="sequential"),
                },
                one_of=("rows", "csv"),
            ),
            "Rows: each is an iteration of every case.",
        ),
        "execution": Field(
            Shape(
                {
                    "mode": Field(
                        choice("sequential", "parallel", "distributed"),
                        "One case after the other, many at once, or many at once in each of several workers.",
                        default="sequential",
                    ),
                    "max": Field(
                        integer(1, 256, fixed=True), "How many cases at once in a worker, unless sequential.", default=8
                    ),
                    "fail_fast": Field(FIXED_BOOLEAN, "Begin no further case once one did not pass.", default=False),
                    "timeout": Field(FIXED_DURATION_S, "The longest the run may take.", default=3600.0),
                    "location": Field(
                        text(63, SLUG, fixed=True),
                        "Only workers of this location run it (`worker --location`).",
                        default="",
                    ),
                    "locks": Field(LOCKS, "Held by the whole run.", default=[]),
                }
            )
        ),
        "schedule": Field(
            SCHEDULE, "When it runs by itself, once it is stored; a run from a file changes no schedule."
        ),
        "triggers": Field(
            ListOf(choice("endpoint_changed", "version_changed"), at_most=2),
            "Also run when a system it names changes.",
            default=[],
        ),
        "gate": Field(
            Shape(
                {
                    "flaky": Field(choice("pass", "warn", "fail"), "What a flaky case means.", default="warn"),
                    "min_cases": Field(integer(0, 100_000, fixed=True), "Fewer judged: inconclusive.", default=0),
                }
            )
        ),
        "setup": Field(STEPS, "Before all cases; when it fails they are blocked.", default=[]),
        "teardown": Field(STEPS, "After all cases, whatever came of them.", default=[]),
        "cases": Field(ListOf(CASE, at_least=1, at_most=MAX_CASES), "What is tested.", required=True),
    }
)
