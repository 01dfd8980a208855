"""What is tested, and what came of it: suites with their versions; runs down to every attempt."""

from datetime import timedelta
from typing import Any, Self

from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Exists, OuterRef, Q

from endpoints.access.principal import Principal
from endpoints.ids import new_id
from endpoints.models import SLUG, AuditEntry, OwnedQuerySet, one_of


class Verdict(models.TextChoices):
    """How something ended: *failed* is judged wrong, *errored* could not be judged."""

    PASSED = "passed"
    FAILED = "failed"
    ERRORED = "errored"
    SKIPPED = "skipped"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"
    INCONCLUSIVE = "inconclusive"


BAD = (Verdict.FAILED, Verdict.ERRORED)
JUDGED = (Verdict.PASSED, *BAD)  # those that say something of what is tested


class RunState(models.TextChoices):
    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class Part(models.TextChoices):
    """What a case run is of: setup and teardown are kept like cases."""

    SETUP = "setup"
    CASE = "case"
    TEARDOWN = "teardown"


class Phase(models.TextChoices):
    """Why a step ran: as written, or to clean up behind another."""

    STEP = "step"
    CLEANUP = "cleanup"


class Overlap(models.TextChoices):
    """What a tick does while the run of an earlier one goes on."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"


class Missed(models.TextChoices):
    """What becomes of ticks at which no worker was there."""

    COALESCE = "coalesce"  # one run for all of them
    SKIP = "skip"
    RUN = "run"  # one each


class Cause(models.TextChoices):
    """Why there is a run."""

    HAND = "hand"
    SCHEDULE = "schedule"
    ENDPOINT_CHANGED = "endpoint_changed"
    VERSION_CHANGED = "version_changed"


WATCHED = ("endpoint", "credential", "system")  # whose changes suites may ask for
LATEST = timedelta(minutes=1)  # no change is committed longer than this after its time

# What a person looks for, in the words of the indexes that lead to it.
NOT_PASSED = ~Q(verdict="") & ~Q(verdict="passed")
TELLING = ~Q(verdict="passed") | Q(flaky=True)


class Suite(models.Model):
    """A suite by its slug; `text` is the document as it was given, byte for byte."""

    slug = models.CharField(max_length=63, unique=True, validators=[SLUG])
    title = models.CharField(max_length=200)
    type = models.CharField(max_length=20)
    labels = models.JSONField(default=list, blank=True)
    # alias: system or system/interface, as the document says
    systems = models.JSONField(default=dict, db_default={}, blank=True)
    text = models.TextField()
    version = models.PositiveIntegerField(default=1)
    owner = models.ForeignKey(Group, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class SuiteVersion(models.Model):
    """A document that was saved, or run from a file: then it belongs to no suite, and has no number."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    suite = models.ForeignKey(Suite, on_delete=models.SET_NULL, null=True, related_name="versions")
    number = models.PositiveIntegerField(null=True)
    digest = models.CharField(max_length=64)  # SHA-256 of the text
    text = models.TextField()
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["suite", "number"], name="suiteversion_number", condition=Q(suite__isnull=False)
            )
        ]
        indexes = [models.Index(fields=["digest"], name="suiteversion_digest")]

    def __str__(self) -> str:
        return f"{self.suite or 'file'} {self.number or self.digest[:8]}"


class SuiteOwnedQuerySet(OwnedQuerySet):
    """Rows that belong to the team of their suite."""

    owner_path = "suite__owner"


class Schedule(models.Model):
    """When a suite runs by itself, as its document says: at the ticks of a cron, and when a system it names changes.

    It acts for whoever stored the document. `next_at` is null while it is paused, or there is no cron.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    suite = models.OneToOneField(Suite, on_delete=models.CASCADE, related_name="schedule")
    cron = models.CharField(max_length=100, blank=True)
    timezone = models.CharField(max_length=63, default="UTC")
    overlap = models.CharField(max_length=10, choices=Overlap, default=Overlap.SKIP)
    missed = models.CharField(max_length=10, choices=Missed, default=Missed.COALESCE)
    triggers = models.JSONField(default=list, blank=True)
    next_at = models.DateTimeField(null=True, db_index=True)
    last_at = models.DateTimeField(null=True)  # the last tick that has its run
    # A change that has no run yet, since a system is in maintenance, and when that is looked at again.
    asked_cause = models.CharField(max_length=20, blank=True, db_default="")
    ask_again_at = models.DateTimeField(null=True)
    paused_at = models.DateTimeField(null=True)
    paused_by = models.CharField(max_length=200, blank=True)
    pause_reason = models.CharField(max_length=500, blank=True)
    acts_for = models.CharField(max_length=200)
    # Who that is, asked again at each tick; "" of one from before that, which acts as it did then.
    author = models.CharField(max_length=60, blank=True, default="", db_default="")
    role = models.CharField(max_length=10)
    team_ids = models.JSONField(null=True)  # whose systems it may use; null: all
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SuiteOwnedQuerySet.as_manager()

    class Meta:
        ordering = ["suite__slug"]
        constraints = [
            one_of("overlap", Overlap, "schedule_overlap"),
            one_of("missed", Missed, "schedule_missed"),
            models.CheckConstraint(
                condition=Q(paused_at__isnull=True) | Q(next_at__isnull=True), name="schedule_paused"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.suite}"

    @property
    def owner_id(self) -> int | None:
        return self.suite.owner_id


class Clock(models.Model):
    """The one row that every worker looks at: up to when changes of systems were looked through."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    changes_until = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="clock_is_one")]


class SeenChange(models.Model):
    """An entry of the audit that was looked through, for as long as others of its time may still be committed."""

    entry_id = models.UUIDField(primary_key=True)
    at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.entry_id}"

    @classmethod
    def unseen(cls, mark: Any, until: Any) -> models.QuerySet[AuditEntry]:
        """Return the changes up to `until` that nobody looked through; any older than the mark by LATEST were."""
        entries = AuditEntry.objects.filter(at__gt=mark - LATEST, at__lte=until, object_type__in=WATCHED)
        return entries.exclude(models.Exists(cls.objects.filter(pk=models.OuterRef("pk"))))


class RunQuerySet(OwnedQuerySet):
    """Runs, which may stand for large documents, and are of all teams whose systems they touch."""

    def visible_to(self, principal: Principal) -> Self:
        """Leave out those that are of one more team than the principal's."""
        rows = super().visible_to(principal)
        if principal.team_ids is None:
            return rows
        others = Run.teams.through.objects.filter(run=OuterRef("pk")).exclude(group__in=principal.team_ids)
        return rows.filter(~Exists(others))

    def slim(self) -> Self:
        """Read which document each ran, and none of the texts: for everything that shows many."""
        return self.select_related("document").defer("document__text", "rows", "vars")

    def whole(self) -> Self:
        """Leave out those of which only some cases were asked for: their verdict is not the suite's."""
        return self.filter(only=[], numbers__isnull=True)


class Run(models.Model):
    """One execution of a suite. It remembers the version, who started it, and what was replaced.

    Whoever works it holds the lease; a lease that ran out means that its worker is lost.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    suite = models.ForeignKey(Suite, on_delete=models.SET_NULL, null=True, related_name="runs")
    document = models.ForeignKey(SuiteVersion, on_delete=models.PROTECT, related_name="runs")
    slug = models.CharField(max_length=63)
    title = models.CharField(max_length=200)
    state = models.CharField(max_length=10, choices=RunState, default=RunState.WAITING)
    verdict = models.CharField(max_length=20, choices=Verdict, blank=True)
    reason = models.CharField(max_length=1000, blank=True)
    flaky = models.BooleanField(default=False)
    dirty = models.BooleanField(default=False)
    systems = models.JSONField(default=dict)  # alias: what it stood for in this run
    vars = models.JSONField(default=dict)  # those that were replaced
    rows = models.JSONField(default=list)  # of a file beside the suite's
    only = models.JSONField(default=list, db_default=[])  # cases that were asked for, with what they need; [] for all
    parallel = models.PositiveSmallIntegerField(null=True)
    allow_production = models.BooleanField(default=False)
    counts = models.JSONField(default=dict)  # verdict: how many cases so far
    total = models.PositiveIntegerField(null=True)  # cases there will be
    created_by = models.CharField(max_length=200)
    author = models.CharField(max_length=60, blank=True, default="", db_default="")  # who that is, asked again
    role = models.CharField(max_length=10)
    team_ids = models.JSONField(null=True)  # whose systems it may use; null: all
    owner = models.ForeignKey(Group, on_delete=models.SET_NULL, null=True, related_name="+")
    teams = models.ManyToManyField(Group, related_name="+")  # the owner and others, if there are others
    several = models.CharField(max_length=500, blank=True, default="", db_default="")  # those teams, to compare by
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)  # when it was asked to end
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    cause = models.CharField(max_length=20, choices=Cause, default=Cause.HAND, db_default=Cause.HAND)
    schedule = models.ForeignKey(Schedule, on_delete=models.SET_NULL, null=True, related_name="runs")
    due_at = models.DateTimeField(null=True)  # the tick it is of
    is_queued = models.BooleanField(default=False, db_default=False)  # it waits for the runs before it of its schedule
    location = models.CharField(max_length=63, blank=True, db_default="")  # whose workers take it; "": those of none
    losses = models.PositiveSmallIntegerField(default=0, db_default=0)  # workers that were lost over it
    # Its workers write down which cases begin; of one from before that, whatever has no result may have begun.
    notes_begun = models.BooleanField(default=True, db_default=False)
    handed = models.BinaryField(null=True)  # encrypted: what its cases share, for whoever works them
    rerun_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="reruns")
    numbers = models.JSONField(null=True)  # of those, the ones that are asked for by their place; null: all
    order = models.UUIDField(default=new_id, null=True)  # rows picked at random are shuffled by it
    bodies_removed_at = models.DateTimeField(null=True)  # by retention: requests, answers and captures
    # The format its results came in, and what they are told by: the same twice is one run.
    imported_as = models.CharField(max_length=10, blank=True, default="", db_default="")
    import_digest = models.CharField(max_length=64, blank=True, default="", db_default="")

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            one_of("state", RunState, "run_state"),
            one_of("cause", Cause, "run_cause"),
            models.UniqueConstraint(fields=["schedule", "due_at"], name="run_tick", condition=Q(due_at__isnull=False)),
            models.CheckConstraint(
                condition=Q(state="ended", verdict__in=Verdict.values) | (~Q(state="ended") & Q(verdict="")),
                name="run_verdict_when_ended",
            ),
            models.UniqueConstraint(fields=["import_digest"], name="run_imported_once", condition=~Q(import_digest="")),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="run_open", condition=~Q(state="ended")),
            models.Index(fields=["slug", "-id"], name="run_by_suite"),
            models.Index(fields=["created_at"], name="run_by_age"),
            models.Index(fields=["created_at"], name="run_with_bodies", condition=Q(bodies_removed_at__isnull=True)),
            models.Index(fields=["verdict", "-id"], name="run_not_passed", condition=NOT_PASSED),
        ]

    def __str__(self) -> str:
        return f"{self.slug} {self.id}"

    @property
    def in_hand(self) -> list[dict[str, Any]]:
        """What its workers have under way; of one whose worker was lost, what that had when it was last heard of."""
        return [step for row in self.underway.all() for step in row.steps]

    @property
    def is_part(self) -> bool:
        """Say whether only some of the suite's cases were asked for: then its verdict is not the suite's."""
        return bool(self.only) or self.numbers is not None

    @property
    def took_s(self) -> float | None:
        """How long it took, None until it has ended, and of one that never began."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


class Underway(models.Model):
    """What one worker has in hand of a run, told while it works: for who watches, and to say what it was lost in."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="underway")
    holder = models.UUIDField()  # its lease token
    steps = models.JSONField(default=list)  # [{"case", "step", "kind", "line", "attempt", "since"}]
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "holder"], name="underway_holder")]


class Share(models.Model):
    """Cases of a distributed run that one worker takes: a lease of its own, so that a lost worker loses only these."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="shares")
    numbers = models.JSONField(default=list)  # the cases' places in the run
    location = models.CharField(max_length=63, blank=True)
    state = models.CharField(max_length=10, choices=RunState, default=RunState.WAITING)
    losses = models.PositiveSmallIntegerField(default=0)
    worker = models.CharField(max_length=200, blank=True)  # who took it last
    stop_verdict = models.CharField(max_length=20, blank=True)  # whoever leads the run asks it to end so
    stop_reason = models.CharField(max_length=200, blank=True)
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [one_of("state", RunState, "share_state")]
        indexes = [models.Index(fields=["state"], name="share_open", condition=~Q(state="ended"))]


class Begun(models.Model):
    """A case that writes has begun, or is about to: should its worker be lost, it is not run again."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="begun")
    number = models.PositiveIntegerField()  # its place in the run

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="begun_once")]

    def __str__(self) -> str:
        return f"{self.run_id} {self.number}"


class Lock(models.Model):
    """A name that one case or run holds at a time, over all workers; it falls free when its holder is lost."""

    name = models.CharField(max_length=100, primary_key=True)
    holder = models.UUIDField(null=True)
    label = models.CharField(max_length=200, blank=True)  # who holds it, in words
    until = models.DateTimeField()


class CaseRun(models.Model):
    """One case in one run, of one combination of the matrix and one row of data."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="cases")
    part = models.CharField(max_length=10, choices=Part, default=Part.CASE)
    number = models.PositiveIntegerField()  # its place in the run
    case = models.CharField(max_length=500)  # of ours 63; those of other tools carry their class
    matrix = models.JSONField(default=dict)
    iteration = models.PositiveIntegerField(default=0)
    verdict = models.CharField(max_length=20, choices=Verdict)
    reason = models.CharField(max_length=1000, blank=True)
    error_class = models.CharField(max_length=20, blank=True)
    blocked_by = models.CharField(max_length=63, blank=True)
    flaky = models.BooleanField(default=False)
    dirty = models.BooleanField(default=False)
    rounds = models.PositiveSmallIntegerField(default=1)  # retries and the first
    started_at = models.DateTimeField(null=True)
    took_ms = models.FloatField(default=0)

    class Meta:
        ordering = ["number"]
        constraints = [
            one_of("verdict", Verdict, "caserun_verdict"),
            one_of("part", Part, "caserun_part"),
            models.UniqueConstraint(fields=["run", "number"], name="caserun_number"),
        ]
        indexes = [
            models.Index(fields=["run", "number"], name="caserun_telling", condition=TELLING),
            models.Index(fields=["case", "run"], name="caserun_by_case"),
        ]

    def __str__(self) -> str:
        """Return its name with what tells it from its sisters."""
        parts = [f"{name}={value}" for name, value in self.matrix.items()]
        parts += [f"row {self.iteration}"] if self.iteration else []
        return f"{self.case} [{', '.join(parts)}]" if parts else self.case

    @property
    def is_bad(self) -> bool:
        """Say whether it was judged wrong, or could not be judged."""
        return self.verdict in BAD


class LoadResult(models.Model):
    """What was measured of a case with load; its shape is in `testing.load.figures`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    case_run = models.OneToOneField(CaseRun, on_delete=models.CASCADE, related_name="load")
    model = models.CharField(max_length=10)
    figures = models.JSONField(default=dict)
    generator = models.JSONField(default=dict)
    thresholds = models.JSONField(default=list)
    chart = models.JSONField(default=dict)
    histograms = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"load of {self.case_run_id}"


class StepRun(models.Model):
    """One step of a case run; `path` tells those within a group apart (`3.1`)."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    case_run = models.ForeignKey(CaseRun, on_delete=models.CASCADE, related_name="steps")
    number = models.PositiveIntegerField()
    path = models.CharField(max_length=100)
    round = models.PositiveSmallIntegerField(default=1)
    phase = models.CharField(max_length=10, choices=Phase, default=Phase.STEP)
    kind = models.CharField(max_length=20)
    step = models.CharField(max_length=63, blank=True)
    line = models.PositiveIntegerField(default=0)
    verdict = models.CharField(max_length=20, choices=Verdict)
    reason = models.CharField(max_length=1000, blank=True)
    captures = models.JSONField(default=dict)
    took_ms = models.FloatField(default=0)

    class Meta:
        ordering = ["number"]
        constraints = [one_of("verdict", Verdict, "steprun_verdict"), one_of("phase", Phase, "steprun_phase")]


class Attempt(models.Model):
    """One try of a step: what was asked, what was seen, and what each assertion said of it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    step_run = models.ForeignKey(StepRun, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    intended_at = models.DateTimeField()
    started_at = models.DateTimeField()
    took_ms = models.FloatField()
    phases_ms = models.JSONField(default=dict)
    verdict = models.CharField(max_length=20, choices=Verdict)
    error_class = models.CharField(max_length=20, blank=True)
    error = models.CharField(max_length=1000, blank=True)
    checks = models.JSONField(default=list)
    request = models.JSONField(default=dict)
    response = models.JSONField(default=dict)

    class Meta:
        ordering = ["number"]
        constraints = [one_of("verdict", Verdict, "testing_attempt_verdict")]
