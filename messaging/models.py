"""What we owe to whom: what was accepted, what came of it, and every try."""

import uuid
from typing import Any, Self

from django.db import models
from django.db.models import Case, F, Q, Value, When

from endpoints.access.principal import Principal
from endpoints.ids import new_id
from endpoints.models import (
    OURS,
    SLUG,
    Credential,
    Endpoint,
    System,
    SystemOwnedQuerySet,
    bounds,
    one_of,
    visible,
    within,
)
from endpoints.transports.base import AckLevel, ErrorClass


class MessageType(models.TextChoices):
    REQUEST = "request"
    RESPONSE = "response"
    EVENT = "event"
    COMMAND = "command"
    QUERY = "query"
    NOTIFICATION = "notification"
    HEARTBEAT = "heartbeat"
    ERROR = "error"


class Priority(models.IntegerChoices):
    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3
    EMERGENCY = 4


class State(models.TextChoices):
    """Where a delivery is in its life."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


OPEN_STATES = (State.PENDING, State.SENDING)
FINAL_STATES = tuple(s for s in State if s not in OPEN_STATES)


class Reason(models.TextChoices):
    """Why a delivery is in its state; part of the outside interface."""

    NEW = "new"
    RETRYING = "retrying"
    PAUSED = "paused"
    MAINTENANCE = "maintenance"
    BREAKER = "breaker"
    THROTTLED = "throttled"
    RATE_LIMITED = "rate_limited"
    BLOCKED = "blocked"
    SCHEDULED = "scheduled"
    NO_CLIENT = "no_client"
    REFUSED = "refused"
    EXHAUSTED = "exhausted"
    POISON = "poison"
    ADDRESS = "address"
    TRANSFORM = "transform"
    DISABLED = "disabled"
    FILTERED = "filtered"
    RETIRED = "retired"
    SENT = "sent"  # of a delivered one
    TTL = "ttl"  # of an expired one
    OPERATOR = "operator"  # of a cancelled one


class Outcome(models.TextChoices):
    """How one attempt ended."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    THROTTLED = "throttled"
    LOST = "lost"
    CUT = "cut"  # we stopped before an answer came


class Trigger(models.TextChoices):
    SCHEDULED = "scheduled"
    MANUAL = "manual"
    REDRIVE = "redrive"
    HALF_OPEN = "half_open"


def sent_visibly(principal: Principal, path: str) -> Q:
    """Return the condition that the principal may see what the system found at `path` sent: but not our own notices."""
    if principal.team_ids is None:
        return Q()
    return visible(principal, f"{path}__owner") & ~Q(**{f"{path}__slug": OURS})


class MessageQuerySet(models.QuerySet[Any]):
    """Messages; a team sees what its systems sent or were to receive."""

    def visible_to(self, principal: Principal) -> Self:
        if principal.team_ids is None:
            return self
        received = Delivery.objects.filter(visible(principal, "system__owner"), message=models.OuterRef("pk"))
        return self.filter(sent_visibly(principal, "source") | models.Exists(received))


# Parts of the deliveries that have indexes of their own; a query that wants one says so in these words.
RARE = ~Q(state="delivered") & ~Q(state="sending") & ~Q(state="pending")
UNSETTLED = ~Q(state="delivered") & ~Q(state="sending")
TELLING_REASON = ~Q(reason="new") & ~Q(reason="sent")
UNGROUPED = Q(state="dead", group__isnull=True, resolved_at__isnull=True)
MOST_COUNTED = 100_000  # more says nothing more, and each look would cost more
FAILED_ANSWER = 300  # from this status code on, attempts are indexed by it


class DeliveryQuerySet(models.QuerySet[Any]):
    """Deliveries; both ends see them."""

    def visible_to(self, principal: Principal) -> Self:
        return self.filter(visible(principal, "system__owner") | sent_visibly(principal, "source"))

    def count_open(self, interface: str) -> int:
        """Return how many of a system's have not ended at one of its doors; of each kind up to `MOST_COUNTED`.

        Asked of `system.deliveries`; each part is counted along an index of its own.
        """
        blocked = Q(state=State.PENDING, reason=Reason.BLOCKED)
        sending = Q(state=State.SENDING, lease_until__isnull=False)
        mine = self.filter(interface=interface).order_by().values("pk")
        return sum(mine.filter(part)[:MOST_COUNTED].count() for part in (WAITS_ITS_TURN, blocked, sending))


class AttemptQuerySet(models.QuerySet[Any]):
    def visible_to(self, principal: Principal) -> Self:
        return self.filter(visible(principal, "delivery__system__owner") | sent_visibly(principal, "delivery__source"))


class Message(models.Model):
    """What was accepted. Immutable; `position` is the order of commit over all processes."""

    position = models.BigAutoField(primary_key=True)
    message_id = models.CharField(max_length=128)
    source = models.ForeignKey(System, on_delete=models.PROTECT, related_name="+", db_index=False)
    targets = models.JSONField(null=True, help_text="As the sender gave it: a list of targets, or null for routes.")
    message_type = models.CharField(max_length=12, choices=MessageType, default=MessageType.EVENT)
    event_type = models.CharField(max_length=200, blank=True)
    priority = models.SmallIntegerField(choices=Priority, default=Priority.NORMAL)
    timestamp = models.DateTimeField(help_text="When the sender says it happened.")
    payload = models.BinaryField(null=True)  # null: removed by retention
    content_type = models.CharField(max_length=200, default="application/json")
    headers = models.JSONField(default=dict)
    correlation_id = models.CharField(max_length=200, blank=True)
    reply_to = models.CharField(max_length=200, blank=True)
    ordering_key = models.CharField(max_length=200, blank=True)
    recipient = models.CharField(max_length=200, blank=True)
    search_keys = models.JSONField(default=dict)
    ttl_s = models.FloatField(null=True)
    deliver_at = models.DateTimeField(null=True)
    max_retries = models.PositiveSmallIntegerField(null=True)
    size = models.PositiveIntegerField()
    fingerprint = models.BinaryField(
        max_length=16
    )  # of everything the sender gave, to tell a duplicate from a conflict
    unrouted = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    objects = MessageQuerySet.as_manager()

    class Meta:
        ordering = ["-position"]
        constraints = [
            # The id first, so that the same index finds a message by its id alone.
            models.UniqueConstraint(fields=["message_id", "source"], name="message_unique_per_source"),
            one_of("message_type", MessageType, "message_type"),
        ]
        indexes = [
            # Rows never change, so an index costs one entry. Each ends with the order that lists are read in.
            models.Index(fields=["source", "position"], name="message_by_source"),
            models.Index(fields=["event_type", "position"], name="message_by_event", condition=~Q(event_type="")),
            models.Index(
                fields=["correlation_id", "position"], name="message_correlation", condition=~Q(correlation_id="")
            ),
            models.Index(fields=["ordering_key", "position"], name="message_by_key", condition=~Q(ordering_key="")),
            models.Index(fields=["created_at", "position"], name="message_created"),
            models.Index(fields=["position"], name="message_unrouted", condition=Q(unrouted=True)),
        ]

    def __str__(self) -> str:
        return self.message_id


class SearchKey(models.Model):
    """A business key of a message (order 4711), indexed."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="keys", db_index=False)
    name = models.CharField(max_length=50)
    value = models.CharField(max_length=200)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["message", "name", "value"], name="searchkey_unique"),
        ]
        indexes = [models.Index(fields=["value", "message", "name"], name="searchkey_value")]

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


class IdempotencyKey(models.Model):
    """The first answer to a key, for 24 hours."""

    source = models.ForeignKey(System, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    fingerprint = models.BinaryField(max_length=16)
    message_id = models.CharField(max_length=128)
    deliveries = models.PositiveIntegerField()
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "key"], name="idempotencykey_unique")]

    def __str__(self) -> str:
        return self.key


WAITS_ITS_TURN = Q(state=State.PENDING) & ~Q(reason=Reason.BLOCKED)
# What a person sent again stands outside the order, unless it is the dead head that `halt` waits for.
HOLDS = ~Q(ordering_key="") & (
    Q(halting=True, state__in=[State.DEAD, *OPEN_STATES])
    | (~Q(trigger__in=[Trigger.MANUAL, Trigger.REDRIVE]) & (Q(state=State.SENDING) | WAITS_ITS_TURN))
)


class DeadGroup(models.Model):
    """Dead letters of one cause: one interface, one error class, one error text but for its varying parts."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    system = models.ForeignKey(System, on_delete=models.CASCADE, related_name="+", db_index=False)
    interface = models.CharField(max_length=63)
    error_class = models.CharField(max_length=20, blank=True)
    signature = models.CharField(max_length=500, blank=True)
    digest = models.CharField(max_length=32)  # of the signature, so that the index stays small
    count = models.BigIntegerField(default=0, help_text="Unresolved dead letters, now.")
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    example = models.UUIDField(null=True)  # the delivery that died last
    note = models.TextField(max_length=2000, blank=True)
    noted_by = models.CharField(max_length=200, blank=True)
    noted_at = models.DateTimeField(null=True)
    resolved_at = models.DateTimeField(null=True, help_text="When all there were had been resolved, the last time.")
    resolved_by = models.CharField(max_length=200, blank=True)

    objects = SystemOwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-last_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["system", "interface", "error_class", "digest"], name="deadgroup_unique"),
        ]
        indexes = [models.Index(fields=["-last_at", "-id"], name="deadgroup_open", condition=Q(count__gt=0))]

    def __str__(self) -> str:
        return f"{self.system_id}/{self.interface} {self.error_class} {self.signature}"

    @property
    def came_back(self) -> bool:
        """Say whether it died again of what a person had resolved."""
        return self.count > 0 and self.resolved_at is not None


class Delivery(models.Model):
    """Message x interface: the unit of state, retry, order, search and resend."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    source = models.ForeignKey(System, on_delete=models.PROTECT, related_name="+", db_index=False)
    system = models.ForeignKey(System, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    interface = models.CharField(max_length=63)
    endpoint = models.ForeignKey(  # the one tried last
        Endpoint,
        on_delete=models.SET_NULL,
        null=True,
        related_name="deliveries",
        db_index=False,
        db_constraint=False,
    )
    state = models.CharField(max_length=10, choices=State)
    reason = models.CharField(max_length=20, choices=Reason)
    error_class = models.CharField(max_length=20, blank=True)
    error = models.CharField(max_length=500, blank=True)
    ack_level = models.CharField(max_length=12, blank=True)
    priority = models.SmallIntegerField(choices=Priority, default=Priority.NORMAL)
    ordering_key = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveIntegerField(default=0, help_text="Tries that count against max_attempts.")
    unspent = models.PositiveIntegerField(default=0, help_text="Tries that do not: throttled, lost, cut.")
    max_attempts = models.PositiveIntegerField()
    losses = models.PositiveSmallIntegerField(default=0)
    trigger = models.CharField(max_length=10, choices=Trigger, default=Trigger.SCHEDULED)
    due_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    throttled_since = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    # The cause it died of, while it is dead; and when a person said that nothing is to be done about it any more.
    group = models.ForeignKey(
        DeadGroup, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False, db_constraint=False
    )
    resolved_at = models.DateTimeField(null=True)
    # The policy `halt`: it died as the head of its ordering key, and those behind it wait for a person.
    halting = models.BooleanField(default=False, db_default=False)
    # That of its message, null for none: what waits for one is found without looking at what waits for others.
    recipient = models.CharField(max_length=200, null=True, editable=False)  # most have none
    # Whether it is the head of its ordering key: those behind it are `blocked`. At most one can be.
    holds = models.GeneratedField(
        expression=Case(When(HOLDS, then=Value(True)), default=Value(False)),
        output_field=models.BooleanField(),
        db_persist=True,
    )

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "deliveries"
        constraints = [
            one_of("state", State, "delivery_state"),
            one_of("reason", Reason, "delivery_reason"),
            models.CheckConstraint(
                condition=Q(state="sending", lease_token__isnull=False, lease_until__isnull=False)
                | (~Q(state="sending") & Q(lease_token__isnull=True, lease_until__isnull=True)),
                name="delivery_lease",
            ),
            models.CheckConstraint(
                condition=Q(state__in=OPEN_STATES, finished_at__isnull=True)
                | (~Q(state__in=OPEN_STATES) & Q(finished_at__isnull=False)),
                name="delivery_finished",
            ),
            models.CheckConstraint(
                condition=Q(state="dead") | Q(group__isnull=True, resolved_at__isnull=True), name="delivery_grouped"
            ),
            models.UniqueConstraint(
                fields=["system", "interface", "ordering_key"], name="delivery_head", condition=Q(holds=True)
            ),
        ]
        indexes = [
            models.Index(
                F("system"),
                F("interface"),
                F("priority").desc(),
                F("due_at"),
                name="delivery_due",
                # What waits behind a head of its key is not looked at, however much it is.
                condition=WAITS_ITS_TURN,
            ),
            models.Index(
                fields=["system", "interface", "recipient", "priority", "due_at"],
                name="delivery_addressed",
                condition=WAITS_ITS_TURN & Q(recipient__isnull=False),
            ),
            models.Index(fields=["due_at"], name="delivery_suspect", condition=Q(state="pending", losses__gt=0)),
            models.Index(
                fields=["system", "interface", "ordering_key", "message"],
                name="delivery_blocked",
                condition=Q(state="pending", reason="blocked"),
            ),
            models.Index(fields=["system", "interface"], name="delivery_halting", condition=Q(halting=True)),
            models.Index(fields=["lease_until"], name="delivery_leased", condition=Q(state="sending")),
            models.Index(
                fields=["expires_at"],
                name="delivery_expiring",
                condition=Q(state="pending", expires_at__isnull=False),
            ),
            # Lists are read by position. What a delivery that arrives at once never enters costs it nothing, and
            # PostgreSQL writes every index that a row is in again whenever its state changes: so there are few whole
            # ones. SQLite uses a partial one only for a query that repeats its conditions, hence their plain shape.
            models.Index(fields=["message", "id"], name="delivery_by_message"),
            models.Index(fields=["system", "message"], name="delivery_by_system"),
            models.Index(fields=["state", "message"], name="delivery_by_state", condition=UNSETTLED),
            models.Index(fields=["system", "state", "message"], name="delivery_by_system_state", condition=RARE),
            models.Index(fields=["reason", "message"], name="delivery_by_reason", condition=TELLING_REASON),
            models.Index(fields=["error_class", "message"], name="delivery_by_error", condition=~Q(error_class="")),
            models.Index(fields=["due_at", "id"], name="delivery_by_due", condition=Q(state="pending")),
            models.Index(
                fields=["finished_at", "message"], name="delivery_finished_at", condition=Q(finished_at__isnull=False)
            ),
            models.Index(fields=["state", "finished_at", "id"], name="delivery_by_state_finished", condition=RARE),
            models.Index(
                fields=["group", "message"],
                name="delivery_by_group",
                condition=Q(group__isnull=False, resolved_at__isnull=True),
            ),
            # Empty but for what was dead before there were groups: they are made up for in steps.
            models.Index(fields=["message"], name="delivery_ungrouped", condition=UNGROUPED),
            # Lists go along the first, retention finds what it may remove now along the second.
            models.Index(fields=["message"], name="delivery_by_resolved", condition=Q(resolved_at__isnull=False)),
            models.Index(
                fields=["resolved_at", "message"], name="delivery_resolved", condition=Q(resolved_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


def later_answer_id(delivery_id: uuid.UUID, number: int) -> str:
    """Return the message id of the answer to attempt `number` of a request that had been answered before.

    The first answer to a request has the id of its delivery.
    """
    return f"{delivery_id}.{number}"


class Attempt(models.Model):
    """One try of a delivery, with what was sent and what came back."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempt_list")
    endpoint = models.ForeignKey(
        Endpoint, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False, db_constraint=False
    )
    number = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    took_ms = models.FloatField()
    phases_ms = models.JSONField(default=dict)
    outcome = models.CharField(max_length=10, choices=Outcome)
    error_class = models.CharField(max_length=20, blank=True)
    error = models.CharField(max_length=500, blank=True)
    status_code = models.PositiveSmallIntegerField(null=True)
    request = models.JSONField(default=dict)
    response_headers = models.JSONField(default=dict)
    response_body = models.BinaryField(null=True)
    response_truncated = models.BooleanField(default=False)
    trigger = models.CharField(max_length=10, choices=Trigger, default=Trigger.SCHEDULED)

    objects = AttemptQuerySet.as_manager()

    class Meta:
        ordering = ["number", "id"]
        constraints = [one_of("outcome", Outcome, "attempt_outcome")]
        indexes = [  # of what failed only: an attempt that delivered is in none of them
            models.Index(fields=["outcome", "id"], name="attempt_by_outcome", condition=~Q(outcome="delivered")),
            models.Index(fields=["error_class", "id"], name="attempt_by_error", condition=~Q(error_class="")),
            models.Index(
                fields=["status_code", "id"], name="attempt_by_status", condition=Q(status_code__gte=FAILED_ANSWER)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.delivery_id} #{self.number}"


# How long an attempt took, in seconds: each is counted as `took` under the first of these that it fits in.
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
OVER = "+Inf"


class Rollup(models.Model):
    """How much happened to a system in one minute; lists and charts count here, never in big tables."""

    minute = models.DateTimeField()
    system = models.ForeignKey(System, on_delete=models.CASCADE, related_name="+", db_index=False)
    # accepted | owed | delivered | dead | expired | cancelled | skipped | purged | attempt
    # | took (by its bucket, see below)
    event = models.CharField(max_length=12)
    error_class = models.CharField(max_length=20, blank=True)
    count = models.BigIntegerField(default=0)
    total_ms = models.FloatField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["minute", "system", "event", "error_class"], name="rollup_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.minute:%H:%M} {self.system_id} {self.event} {self.count}"


class Total(models.Model):
    """How much ever happened to a system, up to where `Folded` says; the rollups it came from may be pruned."""

    system = models.ForeignKey(System, on_delete=models.CASCADE, related_name="+", db_index=False)
    event = models.CharField(max_length=12)
    error_class = models.CharField(max_length=20, blank=True)
    count = models.BigIntegerField(default=0)
    total_ms = models.FloatField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["system", "event", "error_class"], name="total_unique")]

    def __str__(self) -> str:
        return f"{self.system_id} {self.event} {self.count}"


class Folded(models.Model):
    """How far the rollups are in the totals: all minutes before `through`. There is one row at most."""

    through = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.through:%Y-%m-%d %H:%M}"


class JobAction(models.TextChoices):
    """What a job does to each delivery that it finds."""

    RETRY_NOW = "retry_now"
    REDRIVE = "redrive"
    REPLAY = "replay"
    CANCEL = "cancel"
    PURGE = "purge"
    RESOLVE = "resolve"  # of dead letters: nothing is to be done about them any more
    INDEX = "index"  # of messages: search keys that were declared after they came


class JobState(models.TextChoices):
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


OPEN_JOBS = (JobState.RUNNING, JobState.PAUSED)


class JobQuerySet(models.QuerySet[Any]):
    """Jobs; who sees all rows that one goes over sees the job."""

    def visible_to(self, principal: Principal) -> Self:
        if principal.team_ids is None:
            return self
        scopes = self.filter(team_ids__isnull=False).order_by().values_list("team_ids", flat=True).distinct()
        seen = [scope for scope in scopes if principal.team_ids.issuperset(scope)]
        return self.filter(team_ids__isnull=False, team_ids__in=seen)


class Job(models.Model):
    """One action on every delivery that a filter finds; done in order of position, each batch with the mark of it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    action = models.CharField(max_length=10, choices=JobAction)
    filter = models.JSONField(default=dict, help_text="As the list of deliveries takes it.")
    state = models.CharField(max_length=10, choices=JobState, default=JobState.RUNNING)
    rate_per_s = models.FloatField(null=True, help_text="At most so many a second; null: as fast as it goes.")
    total = models.BigIntegerField(null=True, help_text="How many the filter found when it was made.")
    done = models.BigIntegerField(default=0)
    passed_over = models.BigIntegerField(default=0, help_text="Those that had moved on meanwhile.")
    upto = models.BigIntegerField(help_text="The last position there was when it was made.")
    place = models.CharField(max_length=80, blank=True, help_text="All up to this key is done; empty: nothing yet.")
    fingerprint = models.CharField(max_length=64, help_text="Of action and filter: the same cannot run twice at once.")
    team_ids = models.JSONField(null=True, help_text="Whose rows its maker sees; null: everyone's.")
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    next_at = models.DateTimeField(help_text="When its next batch may go, as its rate allows.")
    paused_at = models.DateTimeField(null=True)
    paused_s = models.FloatField(default=0, help_text="How long it was paused, which says nothing of its speed.")
    finished_at = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    error = models.CharField(max_length=500, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            one_of("action", JobAction, "job_action"),
            one_of("state", JobState, "job_state"),
            models.UniqueConstraint(fields=["fingerprint"], name="job_open_once", condition=Q(state__in=OPEN_JOBS)),
        ]
        indexes = [models.Index(fields=["next_at"], name="job_running", condition=Q(state=JobState.RUNNING))]

    def __str__(self) -> str:
        return f"{self.action} {self.id}"

    @property
    def team_id(self) -> int | None:
        """Return the team in whose audit it stands."""
        return self.team_ids[0] if self.team_ids else None


class RetentionMark(models.Model):
    """How far retention is with one kind of row."""

    kind = models.CharField(primary_key=True, max_length=10)
    place = models.CharField(max_length=40, blank=True, help_text="All up to this key is done; empty: nothing yet.")
    ended_at = models.DateTimeField(null=True, help_text="What ended before was looked at, wherever it stands.")

    def __str__(self) -> str:
        return f"{self.kind} {self.place}"


class Measurement(models.Model):
    """A number of the installation at one time: what waits, how large the database is, what a disk has left."""

    name = models.CharField(max_length=10)  # worker | monitor (when they last ticked) | waiting | database | disk
    subject = models.CharField(max_length=300, blank=True)  # waiting: system id and reason; disk: host and folder
    at = models.DateTimeField()
    value = models.BigIntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["name", "at"], name="measurement_by_name")]

    def __str__(self) -> str:
        return f"{self.name} {self.subject} {self.value}"


class Process(models.Model):
    """A process of ours: alive while `seen_at` moves."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    role = models.CharField(max_length=20)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    restarts = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["role", "host", "pid"]
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return f"{self.role} {self.pid}"


class Member(models.Model):
    """One of the processes that share the endpoints' caps and rates; gone when it is silent for too long.

    Those of one `claimer` (see `Transport.CLAIMED_BY`) share among themselves: an endpoint has only one.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    claimer = models.CharField(max_length=20, default="deliver", db_default="deliver")
    place = models.CharField(max_length=200)  # where its pid means something
    pid = models.PositiveIntegerField()
    pid_started = models.CharField(max_length=30)
    seen_at = models.DateTimeField()
    view = models.JSONField(default=list)  # ids of the members by whom it divides
    over = models.JSONField(default=list)  # ids of endpoints on which it still has more than that gives it

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.place} {self.pid}"


class Presence(models.Model):
    """That clients of a system are connected to one process, with this recipient; believed while it says so."""

    id = models.BigAutoField(primary_key=True)
    process = models.UUIDField()
    system = models.ForeignKey(System, on_delete=models.CASCADE, related_name="+", db_index=False)
    recipient = models.CharField(max_length=200, blank=True)
    until = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "presences"
        constraints = [models.UniqueConstraint(fields=["system", "recipient", "process"], name="presence_once")]
        indexes = [models.Index(fields=["process"], name="presence_by_process")]

    def __str__(self) -> str:
        return f"{self.system_id} {self.recipient}"


class ListenerKind(models.TextChoices):
    TCP = "tcp"
    UDP = "udp"
    HOOK = "hook"


class Framing(models.TextChoices):
    """How bodies stand on a stream that a listener reads."""

    LINE = "line"
    LENGTH = "length"
    FIXED = "fixed"
    DELIMITER = "delimiter"
    MLLP = "mllp"


class Envelope(models.TextChoices):
    MESSAGE = "message"  # the sender speaks ours
    NONE = "none"  # it knows nothing of us: what it sends is a payload


class ListenerAck(models.TextChoices):
    """What a sender without our envelope is told once its message is stored."""

    NONE = "none"
    TEXT = "text"
    MLLP = "mllp"


class Listener(models.Model):
    """A way in that we serve; those of kind tcp and udp by the edge process, hooks at `/in/<slug>/`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    slug = models.CharField(max_length=63, unique=True, validators=[SLUG])
    kind = models.CharField(max_length=10, choices=ListenerKind)
    description = models.CharField(max_length=500, blank=True)
    enabled = models.BooleanField(default=True)
    host = models.CharField(max_length=45, default="127.0.0.1", blank=True)
    port = models.PositiveIntegerField(null=True, blank=True, validators=bounds(1, 65535))
    framing = models.CharField(max_length=10, choices=Framing, default=Framing.LINE)
    size = models.PositiveIntegerField(null=True, blank=True)
    delimiter = models.CharField(max_length=40, blank=True)
    envelope = models.CharField(max_length=10, choices=Envelope, default=Envelope.MESSAGE)
    tls = models.BooleanField(default=False)
    client_ca = models.TextField(blank=True, max_length=64 * 1024)
    credential = models.ForeignKey(Credential, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    system = models.ForeignKey(System, on_delete=models.CASCADE, null=True, blank=True, related_name="listeners")
    addresses = models.JSONField(default=list, blank=True)
    certificates = models.JSONField(default=list, blank=True)
    target = models.CharField(max_length=127, blank=True)
    message_type = models.CharField(max_length=20, choices=MessageType, default=MessageType.EVENT)
    event_type = models.CharField(max_length=200, blank=True)
    content_type = models.CharField(max_length=200, blank=True)
    ack = models.CharField(max_length=10, choices=ListenerAck, default=ListenerAck.NONE)
    ack_text = models.CharField(max_length=200, blank=True)
    signature = models.CharField(max_length=30, blank=True, default="none")
    fields = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SystemOwnedQuerySet.as_manager()

    class Meta:
        ordering = ["slug"]
        constraints = [
            one_of("kind", ListenerKind, "listener_kind"),
            one_of("framing", Framing, "listener_framing"),
            one_of("envelope", Envelope, "listener_envelope"),
            one_of("ack", ListenerAck, "listener_ack"),
            within("port", 1, 65535, "listener_port"),
            models.CheckConstraint(
                condition=Q(kind=ListenerKind.HOOK) | Q(port__isnull=False), name="listener_has_address"
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class ListenerReport(models.Model):
    """What one process sees of one listener, written at most every few seconds; stale once the process is silent."""

    listener = models.ForeignKey(Listener, on_delete=models.CASCADE, related_name="reports")
    place = models.CharField(max_length=230)  # host and pid
    problem = models.CharField(max_length=300, blank=True, help_text="Why it is not open; empty: it is.")
    connections = models.PositiveIntegerField(default=0)
    accepted = models.BigIntegerField(default=0)
    duplicates = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0)
    dropped = models.BigIntegerField(default=0)
    rate_per_s = models.FloatField(default=0.0)
    refusals = models.JSONField(default=list)
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ["listener", "place"]
        constraints = [models.UniqueConstraint(fields=["listener", "place"], name="listenerreport_place")]

    def __str__(self) -> str:
        return f"{self.listener} at {self.place}"


ACK_LEVELS = [level.value for level in AckLevel]
ERROR_CLASSES = [error.value for error in ErrorClass]
