"""`controlplane jobs`: make, list and steer jobs from the command line."""

import time
from argparse import ArgumentParser
from typing import Any

import orjson
from django.core.management.base import CommandError

from endpoints.access.principal import COMMAND
from endpoints.management.command import RegistryCommand, add_json, by_prefix
from messaging import store
from messaging.jobs.actions import ACTIONS
from messaging.models import OPEN_JOBS, Job, JobState
from messaging.serializers import DeliverySerializer
from messaging.serializers_jobs import JobSerializer
from messaging.services import jobs

POLL_S = 0.25
LISTED = 20
STEPS = {"pause": jobs.pause, "resume": jobs.resume, "cancel": jobs.cancel}


class Command(RegistryCommand):
    help = (
        "Make a job on every delivery that a filter finds, list jobs, pause, resume or cancel one. "
        "With --wait: exit code 1 unless it was done."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="step", required=True, metavar="create|list|pause|resume|cancel")
        create = commands.add_parser("create", help="do something to all deliveries that the filters find")
        create.add_argument("action", choices=[str(action) for action in ACTIONS], help="what to do")
        create.add_argument(
            "--filter",
            nargs="+",
            action="extend",
            default=[],
            metavar="NAME=VALUE",
            help="as the list of deliveries takes them: state=dead system=crm; dead_group=ID",
        )
        create.add_argument("--all", action="store_true", help="instead of a filter: every delivery it applies to")
        create.add_argument("--dry-run", action="store_true", help="say what it would do, and do nothing")
        create.add_argument("--rate", type=float, metavar="N", help="at most N a second")
        _add_wait(create)
        add_json(create)
        add_json(commands.add_parser("list", help=f"the newest {LISTED}"))
        for step in STEPS:
            one = commands.add_parser(step, help=f"{step} a job")
            one.add_argument("id", help="its id, or the beginning of it that no other has")
            if step == "resume":
                _add_wait(one)
            add_json(one)

    def run(self, options: dict[str, Any]) -> None:
        step = options["step"]
        if step == "list":
            self._list(options)
        elif step == "create":
            self._create(options)
        else:
            job = by_prefix(Job.objects.all(), options["id"], "job")
            self._follow(STEPS[step](job, by=COMMAND), options, is_new=False)

    def _create(self, options: dict[str, Any]) -> None:
        given: dict[str, list[str]] = {}
        for pair in options["filter"]:
            name, equals, value = pair.partition("=")
            if not equals:
                raise CommandError(f"--filter takes NAME=VALUE, not '{pair}'", returncode=2)
            given.setdefault(name, []).append(value)
        action, everything = options["action"], options["all"]
        if options["dry_run"]:
            self._preview(jobs.preview(action, given, by=COMMAND, everything=everything), options)
            return
        job, is_new = jobs.create(action, given, by=COMMAND, rate_per_s=options["rate"], everything=everything)
        self._follow(job, options, is_new=is_new)

    def _preview(self, found: jobs.Preview, options: dict[str, Any]) -> None:
        if options["json"]:
            shown = {"count": found.count, "is_exact": found.is_exact, "states": found.states}
            shown["examples"] = list(DeliverySerializer(found.examples, many=True).data)
            self.stdout.write(orjson.dumps(shown, default=str).decode())
            return
        more = "" if found.is_exact else "+"
        states = ", ".join(f"{count:,} {state}" for state, count in found.states.items())
        self.stdout.write(f"{found.count:,}{more} deliveries{f': {states}' if states else ''}")
        for delivery in found.examples:
            where = f"{delivery.source.slug} -> {delivery.system.slug}/{delivery.interface}"
            why = f" {delivery.error}" if delivery.error else ""
            self.stdout.write(f"  {delivery.pk} {where} {delivery.state} ({delivery.reason}){why}")

    def _list(self, options: dict[str, Any]) -> None:
        rows = list(Job.objects.order_by("-id")[:LISTED])
        if options["json"]:
            self.stdout.write(orjson.dumps([_shown(job) for job in rows], default=str).decode())
            return
        if not rows:
            self.stdout.write("no jobs; make one: controlplane jobs create redrive --filter state=dead")
        for job in rows:
            self.stdout.write(_line(job))

    def _follow(self, job: Job, options: dict[str, Any], *, is_new: bool) -> None:
        """Show a job; with --wait, until it has ended."""
        if options.get("wait"):
            job = self._wait(job)
        if options["json"]:
            self.stdout.write(orjson.dumps(_shown(job), default=str).decode())
        else:
            self.stdout.write(_line(job))
        if options["step"] == "create" and not is_new and not options["json"]:
            self.stderr.write("it was made before and is still open: nothing was made anew")
        if options.get("wait") and job.state != JobState.DONE:
            raise CommandError(f"the job is {job.state}{f': {job.error}' if job.error else ''}", returncode=1)

    def _wait(self, job: Job) -> Job:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
        with Progress(
            *columns, TextColumn("{task.fields[end]}"), console=console, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task(job.action, total=job.total, end="")
            while job.state in OPEN_JOBS:
                bar.update(task, total=job.total, completed=job.done + job.passed_over, end=_end(job))
                time.sleep(POLL_S)
                job.refresh_from_db()
            bar.update(task, total=job.done + job.passed_over, completed=job.done + job.passed_over, end=job.state)
        return job


def _add_wait(parser: ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="show its progress until it has ended")


def _shown(job: Job) -> dict[str, Any]:
    return dict(JobSerializer(job, context={"now": store.now()}).data)


def _end(job: Job) -> str:
    if job.state == JobState.PAUSED:
        return "paused"
    ends_at = jobs.progress(job, store.now()).ends_at
    return f"ends {ends_at:%H:%M:%S} UTC" if ends_at else "waits for a worker" if job.started_at is None else ""


def _line(job: Job) -> str:
    whole = "?" if job.total is None else f"{job.total:,}"
    passed = f", {job.passed_over:,} had moved on" if job.passed_over else ""
    filters = " ".join(f"{name}={','.join(values)}" for name, values in job.filter.items()) or "everything"
    end = f", {_end(job)}" if job.state in OPEN_JOBS else ""
    return f"{job.pk} {job.action} {job.state} {job.done:,} of {whole}{passed} ({filters}){end}"
