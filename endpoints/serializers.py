"""The registry as the API shows and reads it: exactly the documented fields, nothing passed over in silence."""

import uuid
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from endpoints import services
from endpoints.breakers import BreakerSerializer
from endpoints.edge.strict_shape import Strict
from endpoints.models import SLUG, ApiKey, AuditEntry, Credential, Endpoint, Role, Stage, System


class VisibleSlugField(serializers.SlugRelatedField):
    """A related row by its slug or name, out of those the caller may see."""

    def get_queryset(self) -> QuerySet[Any]:
        rows: Any = super().get_queryset()
        return rows.visible_to(self.context["request"].user)


class CredentialField(VisibleSlugField):
    """A credential, shown by its name; read by name or id."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str) and len(data) == 36:
            try:
                found = self.get_queryset().filter(pk=uuid.UUID(data)).first()
            except ValueError:
                found = None
            if found is not None:
                return found
        return super().to_internal_value(data)


def team_field(**options: Any) -> serializers.SlugRelatedField:
    """Return the field of a team, by name."""
    return serializers.SlugRelatedField(
        slug_field="name", queryset=Group.objects.all(), allow_null=True, required=False, **options
    )


@extend_schema_field({"type": "array", "items": {"type": "string"}})
class TextList(serializers.JSONField):
    """A list of texts; the services judge it."""


@extend_schema_field({"type": "array", "items": {"type": "number"}})
class NumberList(serializers.JSONField):
    """A list of numbers; the services judge it."""


@extend_schema_field({"type": "array", "items": {"type": "object", "additionalProperties": {}}})
class ObjectList(serializers.JSONField):
    """A list of objects; the services judge it."""


@extend_schema_field(OpenApiTypes.OBJECT)
class ObjectField(serializers.JSONField):
    """An object; the services judge it."""


class RegistrySerializer(Strict, serializers.ModelSerializer):
    """Hands what it read to `services.save`; uniqueness and values are judged there, for every door alike."""

    linked: tuple[str, ...] = ()

    def create(self, validated_data: dict[str, Any]) -> Any:
        model: Any = self.Meta.model
        return self._save(model(), validated_data, "create")

    def update(self, instance: Any, validated_data: dict[str, Any]) -> Any:
        return self._save(instance, validated_data, "update")

    def _save(self, instance: Any, values: dict[str, Any], action: str) -> Any:
        m2m = {name: values.pop(name) for name in self.linked if name in values}
        for name, value in values.items():
            setattr(instance, name, value)
        return services.save(instance, by=self.principal, action=action, m2m=m2m)


class SystemSerializer(RegistrySerializer):
    """A registered party, addressed by its slug."""

    linked = ("depends_on",)
    slug = serializers.CharField(max_length=63, validators=[SLUG])
    owner = team_field(help_text="The team that owns it; null: everyone.")
    depends_on = VisibleSlugField(slug_field="slug", queryset=System.objects.all(), many=True, required=False)
    tags = TextList(required=False)
    capabilities = TextList(required=False)
    accepts_from = TextList(required=False, help_text='Teams and systems that may send here, or ["*"].')
    metadata = ObjectField(required=False)
    search_keys = ObjectList(required=False)
    in_maintenance = serializers.BooleanField(read_only=True, help_text="Whether a window holds its deliveries now.")

    class Meta:
        model = System
        fields = (
            *("slug", "name", "kind", "environment", "version", "description", "tags", "capabilities"),
            *("metadata", "owner", "contact", "runbook_url", "search_keys", "accepts_from"),
            *("accepts_broadcast", "depends_on", "allow_load", "max_message_bytes", "state"),
            *("pause_until", "pause_reason", "retirement", "retired_at", "in_maintenance"),
            *("last_seen_at", "created_at", "updated_at"),
        )
        read_only_fields = fields[-8:]

    def create(self, validated_data: dict[str, Any]) -> Any:
        """Only what is there for development may be put under load without anybody saying so."""
        stage = validated_data.get("environment", Stage.DEVELOPMENT)
        validated_data.setdefault("allow_load", stage == Stage.DEVELOPMENT)
        return super().create(validated_data)


class EndpointSerializer(RegistrySerializer):
    """One address of a system."""

    system = VisibleSlugField(slug_field="slug", queryset=System.objects.all())
    interface = serializers.CharField(max_length=63, validators=[SLUG], required=False)
    name = serializers.CharField(max_length=100, validators=[SLUG], required=False)
    credential = CredentialField(slug_field="name", queryset=Credential.objects.all(), allow_null=True, required=False)
    use = TextList(required=False, help_text="One or more of deliver, probe, test.")
    config = ObjectField(required=False, help_text="By protocol; checked against its published schema.")
    retry_schedule_s = NumberList(required=False)
    outcomes = ObjectList(required=False)
    breaker = serializers.SerializerMethodField()

    class Meta:
        model = Endpoint
        fields = (
            *("id", "system", "interface", "name", "use", "protocol", "host", "port", "path"),
            *("config", "credential", "timeout_s", "max_attempts", "retry_schedule_s"),
            *("max_in_flight", "rate_per_s", "weight", "tier", "balancing", "ordering_policy"),
            *("outcomes", "state", "pause_until", "pause_reason", "health", "breaker"),
            *("created_at", "updated_at"),
        )
        read_only_fields = ("pause_until", "pause_reason", "health", "created_at", "updated_at")
        # What must be unique is told by the services, as a conflict.
        validators: tuple[Any, ...] = ()

    @extend_schema_field(BreakerSerializer(allow_null=True))
    def get_breaker(self, endpoint: Endpoint) -> dict[str, Any] | None:
        breaker = getattr(endpoint, "breaker", None)
        return dict(BreakerSerializer(breaker).data) if breaker else None


class CredentialSerializer(RegistrySerializer):
    """A stored secret; `data` goes in and never comes out."""

    name = serializers.CharField(max_length=63, validators=[SLUG])
    owner = team_field(help_text="The team that owns it; null: everyone.")
    data = ObjectField(write_only=True, help_text="The fields of its kind.")  # type: ignore[assignment]

    class Meta:
        model = Credential
        fields = ("id", "name", "kind", "data", "owner", "created_at", "updated_at")
        read_only_fields = ("created_at", "updated_at")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        changes_kind = self.instance is not None and attrs.get("kind", self.instance.kind) != self.instance.kind
        if changes_kind and "data" not in attrs:
            raise serializers.ValidationError({"data": ["Another kind needs other data."]})
        return attrs

    def _save(self, instance: Any, values: dict[str, Any], action: str) -> Any:
        data = values.pop("data", None)
        if data is None:
            return super()._save(instance, values, action)
        for name, value in values.items():
            setattr(instance, name, value)
        with transaction.atomic():
            return services.set_secret(instance, data, by=self.principal)


class KeySerializer(Strict, serializers.ModelSerializer):
    """An API key, without the key: only its hash is known."""

    role = serializers.ChoiceField(choices=Role.choices)
    team = team_field(help_text="The team whose rows it sees; null with no system: all.")
    system = VisibleSlugField(
        slug_field="slug",
        queryset=System.objects.all(),
        allow_null=True,
        required=False,
        help_text="The only system it speaks as.",
    )

    class Meta:
        model = ApiKey
        fields: tuple[str, ...] = (
            "id",
            "name",
            "role",
            "team",
            "system",
            "expires_at",
            "revoked_at",
            "last_used_at",
            "created_at",
        )
        read_only_fields = ("revoked_at", "last_used_at", "created_at")

    def create(self, validated_data: dict[str, Any]) -> ApiKey:
        key, self.plaintext = services.create_api_key(**validated_data, by=self.principal)
        return key


class NewKeySerializer(KeySerializer):
    """The answer to a new key: the only time that its text is shown."""

    key = serializers.CharField(read_only=True)

    class Meta(KeySerializer.Meta):
        fields: tuple[str, ...] = (*KeySerializer.Meta.fields, "key")


class AuditSerializer(serializers.ModelSerializer):
    """Who changed or read what."""

    team: Any = serializers.SlugRelatedField(slug_field="name", read_only=True)
    changes = ObjectField(read_only=True)

    class Meta:
        model = AuditEntry
        fields = (
            "id",
            "at",
            "actor",
            "via",
            "action",
            "object_type",
            "object_id",
            "object_label",
            "team",
            "changes",
        )
        read_only_fields = fields


class TrialSerializer(serializers.Serializer):
    """How a probe or a test of a credential ended."""

    ok = serializers.BooleanField()
    took_ms = serializers.FloatField()
    status_code = serializers.IntegerField(allow_null=True)
    error_class = serializers.CharField(allow_blank=True)
    detail = serializers.CharField(allow_blank=True)
    phases_ms = ObjectField()
