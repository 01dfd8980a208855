"""Who is out there, how to reach them, and who may do what."""

from datetime import datetime
from typing import Any, Self

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from endpoints.access.principal import Principal
from endpoints.ids import new_id

SLUG = RegexValidator(
    r"\A[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z",
    "Use 1 to 63 lower-case letters, digits and hyphens, starting and ending with a letter or digit.",
)
MAX_MESSAGE_BYTES = 25 * 1024 * 1024
USUAL_MESSAGE_BYTES = 1024 * 1024
RETRY_SCHEDULE_S = [5, 30, 120, 600, 1800, 7200, 21600, 43200, 86400]


class Role(models.TextChoices):
    """What a principal may do; each role includes those before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    EDITOR = "editor"
    ADMIN = "admin"


class SystemKind(models.TextChoices):
    SERVICE = "service"
    DATABASE = "database"
    CACHE = "cache"
    BROKER = "broker"
    VECTOR_DATABASE = "vector_database"
    MODEL = "model"
    METRICS = "metrics"
    AGENT = "agent"
    DEVICE = "device"
    OTHER = "other"


class Stage(models.TextChoices):
    """Where a system runs; called `environment` in the API."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


class SystemState(models.TextChoices):
    ACTIVE = "active"
    PAUSED = "paused"
    RETIRED = "retired"


class Retirement(models.TextChoices):
    """What a retired system still has to do; nothing once all that waited for it has ended."""

    DRAINING = "draining"  # what waits is delivered
    CANCELLING = "cancelling"  # what waits is cancelled, a batch at a time


class EndpointState(models.TextChoices):
    ENABLED = "enabled"
    PAUSED = "paused"
    DISABLED = "disabled"


class Health(models.TextChoices):
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"
    STALE = "stale"


class Balancing(models.TextChoices):
    ROUND_ROBIN = "round_robin"
    WEIGHTED = "weighted"
    LEAST_IN_FLIGHT = "least_in_flight"
    FAILOVER = "failover"


class OrderingPolicy(models.TextChoices):
    BLOCK = "block"
    HALT = "halt"


class BreakerState(models.TextChoices):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CredentialKind(models.TextChoices):
    API_KEY = "api_key"
    BASIC = "basic"
    BEARER = "bearer"
    HMAC = "hmac"
    OAUTH2_CLIENT = "oauth2_client"
    MTLS = "mtls"
    JWT = "jwt"


def one_of(field: str, choices: type[models.TextChoices], name: str) -> models.CheckConstraint:
    """Return the CHECK that keeps `field` within `choices` in the database too."""
    return models.CheckConstraint(condition=Q(**{f"{field}__in": choices.values}), name=name)


def within(field: str, low: float, high: float, name: str) -> models.CheckConstraint:
    """Return the CHECK that keeps `field` within low..high."""
    return models.CheckConstraint(condition=Q(**{f"{field}__gte": low, f"{field}__lte": high}), name=name)


def bounds(low: float, high: float) -> list[Any]:
    """Return the validators that say the same as `within` before the database does."""
    return [MinValueValidator(low), MaxValueValidator(high)]


def default_use() -> list[str]:
    return ["deliver", "probe", "test"]


def default_retry_schedule() -> list[int]:
    return list(RETRY_SCHEDULE_S)


# The system that this installation speaks as: its notices are for whom they are sent to, though it belongs to nobody.
OURS = "controlplane"


def visible(principal: Principal, owner_path: str) -> Q:
    """Return the condition that a row's team, found at `owner_path`, is one of the principal's, or nobody's."""
    if principal.team_ids is None:
        return Q()
    return Q(**{f"{owner_path}__in": principal.team_ids}) | Q(**{f"{owner_path}__isnull": True})


class OwnedQuerySet(models.QuerySet[Any]):
    """Rows that belong to a team through their `owner`."""

    owner_path = "owner"

    def visible_to(self, principal: Principal) -> Self:
        return self.filter(visible(principal, self.owner_path))


class SystemOwnedQuerySet(OwnedQuerySet):
    """Rows that belong to the team that owns their system."""

    owner_path = "system__owner"


class TeamOwnedQuerySet(OwnedQuerySet):
    owner_path = "team"


class System(models.Model):
    """A registered party: something that sends or receives messages."""

    slug = models.CharField(max_length=63, unique=True, validators=[SLUG])
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=20, choices=SystemKind, default=SystemKind.SERVICE)
    environment = models.CharField(max_length=20, choices=Stage, default=Stage.DEVELOPMENT)
    version = models.CharField(max_length=100, blank=True)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=list, blank=True)
    capabilities = models.JSONField(default=list, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    owner = models.ForeignKey(Group, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    contact = models.CharField(max_length=200, blank=True)
    runbook_url = models.URLField(max_length=500, blank=True)
    search_keys = models.JSONField(
        default=list,
        blank=True,
        help_text='Business keys to index, e.g. [{"name": "order", "from": "payload.$.id"}].',
    )
    accepts_from = models.JSONField(
        default=list,
        blank=True,
        help_text='Teams and systems that may send here, or ["*"]. Empty: the own team; everyone if there is no team.',
    )
    accepts_broadcast = models.BooleanField(default=False)
    depends_on = models.ManyToManyField("self", symmetrical=False, blank=True, related_name="dependents")
    allow_load = models.BooleanField(default=True)
    max_message_bytes = models.PositiveIntegerField(
        default=USUAL_MESSAGE_BYTES,
        validators=bounds(1, MAX_MESSAGE_BYTES),
        help_text="Largest payload this system may send.",
    )
    state = models.CharField(max_length=10, choices=SystemState, default=SystemState.ACTIVE)
    pause_until = models.DateTimeField(null=True, blank=True)
    pause_reason = models.CharField(max_length=500, blank=True)
    retirement = models.CharField(max_length=10, choices=Retirement, blank=True, default="", db_default="")
    retired_at = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, editable=False, help_text="When its last heartbeat was accepted.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(
                condition=Q(retirement="") | Q(state="retired", retirement__in=Retirement.values),
                name="system_retirement",
            ),
            one_of("kind", SystemKind, "system_kind"),
            one_of("environment", Stage, "system_environment"),
            one_of("state", SystemState, "system_state"),
            within("max_message_bytes", 1, MAX_MESSAGE_BYTES, "system_max_message_bytes"),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def may_be_sent_to(self) -> bool:
        """Say whether nobody took it out of use: it is active, or retired and still gets what waited for it."""
        return self.state == SystemState.ACTIVE or self.retirement == Retirement.DRAINING

    @property
    def in_maintenance(self) -> bool:
        """Say whether it is in a window now; asks for the windows unless they were prefetched."""
        now = timezone.now()
        return any(window.is_on(now) for window in self.maintenances.all())


class Credential(models.Model):
    """A stored secret. `data` is encrypted; the plain form never leaves `access.secrets`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=100, unique=True, validators=[SLUG])
    kind = models.CharField(max_length=20, choices=CredentialKind)
    data = models.BinaryField(editable=False)
    encryption_key_id = models.CharField(max_length=16, editable=False)
    owner = models.ForeignKey(Group, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [one_of("kind", CredentialKind, "credential_kind")]

    def __str__(self) -> str:
        return self.name


class CredentialToken(models.Model):
    """The access token got with a credential: one for all processes, renewed by whoever holds `renewing_until`."""

    credential = models.OneToOneField(Credential, on_delete=models.CASCADE, primary_key=True, related_name="token")
    data = models.BinaryField(editable=False, null=True)
    encryption_key_id = models.CharField(max_length=16, editable=False, blank=True)
    version = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField(null=True)
    renewing_until = models.DateTimeField(null=True)


class Endpoint(models.Model):
    """One address of a system; endpoints of one interface are replicas of each other."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    system = models.ForeignKey(System, on_delete=models.CASCADE, related_name="endpoints")
    interface = models.CharField(max_length=63, default="main", validators=[SLUG])
    name = models.CharField(max_length=100, default="main", validators=[SLUG])
    use = models.JSONField(default=default_use, blank=True)
    protocol = models.CharField(max_length=20)
    host = models.CharField(max_length=253, blank=True)
    port = models.PositiveIntegerField(null=True, blank=True, validators=bounds(1, 65535))
    path = models.CharField(max_length=2000, blank=True)
    config = models.JSONField(default=dict, blank=True)
    credential = models.ForeignKey(
        Credential, on_delete=models.PROTECT, null=True, blank=True, related_name="endpoints"
    )
    timeout_s = models.FloatField(default=15, validators=bounds(0.1, 300))
    max_attempts = models.PositiveSmallIntegerField(default=10, validators=bounds(1, 100))
    retry_schedule_s = models.JSONField(default=default_retry_schedule, blank=True)
    max_in_flight = models.PositiveSmallIntegerField(default=16, validators=bounds(1, 1024))
    rate_per_s = models.FloatField(null=True, blank=True, validators=bounds(0.001, 1_000_000))
    weight = models.PositiveSmallIntegerField(default=1, validators=bounds(1, 1000))
    tier = models.PositiveSmallIntegerField(default=0)
    balancing = models.CharField(max_length=20, choices=Balancing, default=Balancing.ROUND_ROBIN)
    ordering_policy = models.CharField(max_length=10, choices=OrderingPolicy, default=OrderingPolicy.BLOCK)
    outcomes = models.JSONField(
        default=list,
        blank=True,
        help_text='First match wins, e.g. [{"when": {"body.$.ok": {"eq": false}}, "is": "retry"}].',
    )
    state = models.CharField(max_length=10, choices=EndpointState, default=EndpointState.ENABLED)
    pause_until = models.DateTimeField(null=True, blank=True)
    pause_reason = models.CharField(max_length=500, blank=True)
    health = models.CharField(max_length=10, choices=Health, default=Health.UNKNOWN)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SystemOwnedQuerySet.as_manager()

    class Meta:
        ordering = ["system__slug", "interface", "tier", "name"]
        constraints = [
            models.UniqueConstraint(fields=["system", "interface", "name"], name="endpoint_unique_name"),
            one_of("state", EndpointState, "endpoint_state"),
            one_of("health", Health, "endpoint_health"),
            one_of("balancing", Balancing, "endpoint_balancing"),
            one_of("ordering_policy", OrderingPolicy, "endpoint_ordering_policy"),
            within("timeout_s", 0.1, 300, "endpoint_timeout_s"),
            within("max_attempts", 1, 100, "endpoint_max_attempts"),
            within("max_in_flight", 1, 1024, "endpoint_max_in_flight"),
            models.CheckConstraint(
                condition=Q(port__isnull=True) | Q(port__gte=1, port__lte=65535), name="endpoint_port"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.system.slug}/{self.interface}:{self.name}"

    @property
    def known_health(self) -> str:
        """Return what is known of it: with a breaker that is not closed it is down, whatever a probe said."""
        breaker = getattr(self, "breaker", None)
        is_shut = breaker is not None and breaker.state != BreakerState.CLOSED
        return Health.DOWN.value if is_shut else self.health


class Breaker(models.Model):
    """What the tries of one endpoint say of it, over all processes; no row means that none has failed yet."""

    endpoint = models.OneToOneField(Endpoint, on_delete=models.CASCADE, primary_key=True, related_name="breaker")
    state = models.CharField(max_length=10, choices=BreakerState, default=BreakerState.CLOSED)
    streak = models.JSONField(default=list)  # ids of the different deliveries that failed since the last success
    tries = models.JSONField(default=list)  # [start of 30 s in unix time, tries, failures], oldest first
    error_class = models.CharField(max_length=20, blank=True)
    error = models.CharField(max_length=500, blank=True)
    opened_at = models.DateTimeField(null=True)
    changed_at = models.DateTimeField(null=True)  # sends that began before this say nothing of now
    try_at = models.DateTimeField(null=True)  # open: when one may be tried; half-open: when that try counts as lost
    trying = models.UUIDField(null=True)  # the lease token of the one being tried
    tried_at = models.DateTimeField(null=True)
    last_failed = models.UUIDField(null=True)  # the delivery tried last in vain
    healed_at = models.DateTimeField(null=True)  # from here sends begin with one in flight
    # What had waited when this was set goes at most so fast; ended once all of it went.
    pace_per_s = models.FloatField(null=True)
    paced_at = models.DateTimeField(null=True)
    written_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            one_of("state", BreakerState, "breaker_state"),
            models.CheckConstraint(
                condition=Q(pace_per_s__isnull=True, paced_at__isnull=True)
                | Q(pace_per_s__gt=0, paced_at__isnull=False),
                name="breaker_pace",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.state}"


class Inbox(models.Model):
    """What is known of whoever fetches from a `pull` endpoint; no row means that nobody ever asked."""

    endpoint = models.OneToOneField(Endpoint, on_delete=models.CASCADE, primary_key=True, related_name="inbox")
    asked_at = models.DateTimeField()  # written every few seconds while somebody asks
    asked_by = models.CharField(max_length=200)
    next_at = models.DateTimeField(null=True)  # when its rate allows the next delivery

    def __str__(self) -> str:
        return f"{self.endpoint}: asked by {self.asked_by}"


class MaintenanceQuerySet(SystemOwnedQuerySet):
    """Windows; they may overlap, and a system is held as long as it is in any of them."""

    def at(self, now: Any) -> Self:
        """Return the windows that `now` (a time, or the database's own) lies in."""
        return self.filter(starts_at__lte=now, ends_at__gt=now)


class Maintenance(models.Model):
    """A planned time in which a system is not sent to and nobody is told of it; what comes is held."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    system = models.ForeignKey(System, on_delete=models.CASCADE, related_name="maintenances")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(db_index=True)
    reason = models.CharField(max_length=500, blank=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MaintenanceQuerySet.as_manager()

    class Meta:
        ordering = ["starts_at", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gt=models.F("starts_at")), name="maintenance_ends_later"),
        ]

    def __str__(self) -> str:
        return f"{self.system.slug}, {self.starts_at:%Y-%m-%d %H:%M} to {self.ends_at:%Y-%m-%d %H:%M} UTC"

    def is_on(self, now: Any) -> bool:
        """Say whether `now` lies in the window."""
        return bool(self.starts_at <= now < self.ends_at)


class Incident(models.Model):
    """An opened-then-resolved period of bad health; at most one is open of each subject.

    The subject is an endpoint, or one of our own processes.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    subject = models.CharField(max_length=300)  # endpoint:<id> or process:<role>@<host>
    label = models.CharField(max_length=300)
    system = models.ForeignKey(System, on_delete=models.CASCADE, null=True, related_name="incidents")
    endpoint = models.ForeignKey(Endpoint, on_delete=models.SET_NULL, null=True, related_name="incidents")
    causes = models.JSONField(default=list)  # [{"cause", "since", "until", "detail", "times"}], oldest first
    summary = models.CharField(max_length=500)
    facts = models.JSONField(default=dict)  # the numbers that it was judged by, lately
    opened_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    # Another one that speaks for this: of the same host, or of a system that this one depends on.
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="children")
    parent_because = models.CharField(max_length=20, blank=True)  # host | dependency | process
    quiet_because = models.CharField(max_length=20, blank=True)  # paused | maintenance | dependency: nobody is told
    returns = models.PositiveIntegerField(default=0, help_text="How often it came back shortly after it resolved.")
    speak_at = models.DateTimeField(default=timezone.now, help_text="Nobody is told of it before.")
    told_opened_at = models.DateTimeField(null=True)
    told_resolved_at = models.DateTimeField(null=True)

    objects = SystemOwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["subject"], name="incident_one_open", condition=Q(resolved_at__isnull=True))
        ]
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="incident_by_time"),
            models.Index(fields=["subject", "-opened_at"], name="incident_by_subject"),
            models.Index(
                fields=["told_opened_at"],
                name="incident_half_told",
                condition=Q(told_opened_at__isnull=False, told_resolved_at__isnull=True),
            ),
        ]

    @property
    def broken_since(self) -> datetime:
        """Return when it opened, or came back for the last time: in between it was well, and its readers knew that."""
        returned_at = self.facts.get("returned_at")
        return datetime.fromisoformat(returned_at) if returned_at else self.opened_at

    def __str__(self) -> str:
        return f"{self.label}: {self.summary}"


class NoticeTarget(models.Model):
    """Who is told when an incident opens and when it resolves: a registered system, or a mailbox."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Group, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    target = models.CharField(max_length=127, blank=True, help_text="A system or system/interface that gets a message.")
    email = models.EmailField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TeamOwnedQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=(Q(target="") & ~Q(email="")) | (~Q(target="") & Q(email="")), name="noticetarget_one_way"
            ),
        ]

    def __str__(self) -> str:
        return self.target or self.email


class NoticeKind(models.TextChoices):
    OPENED = "opened"
    RESOLVED = "resolved"
    TEST = "test"


class NoticeState(models.TextChoices):
    PENDING = "pending"
    SENT = "sent"  # accepted by our own intake, or taken by the mail server
    FAILED = "failed"


class Notice(models.Model):
    """That one target is told one thing of one incident, once; several of them may go out as one digest.

    Written in the transaction that decides it, sent afterwards: a crash in between loses and repeats nothing.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, null=True, related_name="notices")
    target = models.ForeignKey(NoticeTarget, on_delete=models.SET_NULL, null=True, related_name="notices")
    told = models.CharField(max_length=254)  # the target by name, for when it is gone
    kind = models.CharField(max_length=10, choices=NoticeKind)
    round = models.PositiveIntegerField(default=0)  # the incident's `returns`: it may open and resolve again
    carrier = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="carried")  # a digest
    payload = models.JSONField(default=dict)  # of the carrier only
    state = models.CharField(max_length=10, choices=NoticeState, default=NoticeState.PENDING)
    tries = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField()
    error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["created_at", "id"]
        constraints = [
            one_of("kind", NoticeKind, "notice_kind"),
            one_of("state", NoticeState, "notice_state"),
            models.UniqueConstraint(
                fields=["target", "incident", "kind", "round"], name="notice_once", condition=~Q(kind=NoticeKind.TEST)
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_at"], name="notice_due", condition=Q(state=NoticeState.PENDING, carrier__isnull=True)
            ),
            models.Index(fields=["target", "-created_at"], name="notice_by_target"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.told}"


class EmergencyStop(models.Model):
    """While this row is there, nothing is sent to anybody; there is at most one."""

    ONLY = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY)
    since = models.DateTimeField()
    by = models.CharField(max_length=200)
    until = models.DateTimeField(null=True)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="emergencystop_only_one")]

    def __str__(self) -> str:
        return "everything"


class ApiKey(models.Model):
    """A key for programs. Only its hash is kept; the key itself is shown once."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=100)
    secret_hash = models.CharField(max_length=64, unique=True, editable=False)
    role = models.CharField(max_length=10, choices=Role)
    team = models.ForeignKey(Group, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    system = models.ForeignKey(System, on_delete=models.CASCADE, null=True, blank=True, related_name="keys")
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TeamOwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [one_of("role", Role, "apikey_role")]

    def __str__(self) -> str:
        return self.name


class SigningKey(models.Model):
    """A system's secret for signed datagrams and hooks: it says who sent, and that nothing was changed on the way."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    system = models.ForeignKey(System, on_delete=models.CASCADE, related_name="signing_keys")
    secret = models.BinaryField(editable=False)
    encryption_key_id = models.CharField(max_length=16, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SystemOwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"signing key {self.pk} of {self.system}"


class Membership(models.Model):
    """The role of a person; their teams are their groups. Superusers are admins without one."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="membership")
    role = models.CharField(max_length=10, choices=Role, default=Role.VIEWER)

    class Meta:
        constraints = [one_of("role", Role, "membership_role")]

    def __str__(self) -> str:
        return f"{self.user}: {self.role}"


class AuditEntry(models.Model):
    """Who changed or read what, when; written in the transaction of the change, never edited."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.CharField(max_length=200)
    via = models.CharField(max_length=10)
    action = models.CharField(max_length=50)
    object_type = models.CharField(max_length=50)
    object_id = models.CharField(max_length=128)
    object_label = models.CharField(max_length=300)
    team = models.ForeignKey(Group, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    changes = models.JSONField(default=dict)

    objects = TeamOwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["object_type", "object_id"], name="audit_object")]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.object_type} {self.object_label}"
