"""The REST face of the ways in that we serve."""

from dataclasses import asdict
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from endpoints.access.rest import principal_of
from endpoints.api import RegistryViewSet
from endpoints.edge import filters as by
from endpoints.edge.strict_shape import Strict
from endpoints.models import SLUG, Credential, System
from endpoints.pausing import ResumeSerializer
from endpoints.serializers import CredentialField, ObjectField, TextList, VisibleSlugField
from messaging.listening.framing import VERBATIM
from messaging.models import Listener, ListenerKind
from messaging.services import listeners


class RefusalSerializer(serializers.Serializer):
    """Somebody, or something, that was not let in."""

    at = serializers.DateTimeField()
    address = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class SeenSerializer(serializers.Serializer):
    """What is seen of a listener; counts are those of the processes that run now."""

    state = serializers.ChoiceField(choices=("disabled", "waiting", "open", "failed"))
    problem = serializers.CharField(help_text="Why it is not open.")
    connections = serializers.IntegerField()
    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    refused = serializers.IntegerField(help_text="Connections and messages.")
    dropped = serializers.IntegerField(help_text="Datagrams that there was no room for.")
    rate_per_s = serializers.FloatField()
    refusals = RefusalSerializer(many=True, help_text="The last, newest first.")
    seen_at = serializers.DateTimeField(allow_null=True)


class ListenerSerializer(Strict, serializers.ModelSerializer):
    """A way in that we serve."""

    slug = serializers.CharField(max_length=63, validators=[SLUG])
    system = VisibleSlugField(
        slug_field="slug",
        queryset=System.objects.all(),
        allow_null=True,
        required=False,
        help_text="Whose messages these are, for `envelope: none` and hooks.",
    )
    credential = CredentialField(
        slug_field="name",
        queryset=Credential.objects.all(),
        allow_null=True,
        required=False,
        help_text="tcp: kind mtls, the server's certificate and key. hook: the secret; without one, its signing keys.",
    )
    addresses = TextList(required=False, help_text="Networks the sender is known by, such as 10.1.0.0/16.")
    certificates = TextList(required=False, help_text="Names or `sha256:<hex>` fingerprints of client certificates.")
    seen = serializers.SerializerMethodField()

    class Meta:
        model = Listener
        fields = (
            *("id", "slug", "kind", "description", "enabled", "host", "port", "framing", "size", "delimiter"),
            *("envelope", "tls", "client_ca", "credential", "system", "addresses", "certificates", "target"),
            *("message_type", "event_type", "content_type", "ack", "ack_text", "signature", "fields", "seen"),
            *("created_at", "updated_at"),
        )
        read_only_fields = ("created_at", "updated_at")
        # Line ends and blanks are what devices end frames and acknowledgements with.
        extra_kwargs: ClassVar[dict[str, Any]] = {name: {"trim_whitespace": False} for name in VERBATIM}
        validators: tuple[Any, ...] = ()

    def get_fields(self) -> Any:
        """Return the fields; `fields` itself is a name of Django REST Framework's, so it is put in by hand."""
        mapping = ObjectField(required=False, help_text="hook: field -> header.<name> or payload.<JSONPath>.")
        return {**super().get_fields(), "fields": mapping}

    @extend_schema_field(SeenSerializer)
    def get_seen(self, listener: Listener) -> dict[str, Any]:
        known = self.context.get("seen")
        if known is None or listener.pk not in known:
            known = listeners.seen([listener])
        return dict(SeenSerializer(asdict(known[listener.pk])).data)

    def create(self, validated_data: dict[str, Any]) -> Listener:
        return listeners.save(Listener(**validated_data), by=self.principal)

    def update(self, instance: Listener, validated_data: dict[str, Any]) -> Listener:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        return listeners.save(instance, by=self.principal, action="update")


class ListenerViewSet(RegistryViewSet):
    """Ways in that we serve: TCP and UDP ports, and hooks at `/in/<slug>/`."""

    resource = "listeners"
    queryset = Listener.objects.all()
    serializer_class = ListenerSerializer
    related = ("system", "credential")
    lookup_field = "slug"
    filters = {
        "kind": by.choice("kind", ListenerKind.values),
        "system": by.one_of("system__slug", "Whose messages come in by it."),
        "enabled": by.boolean("enabled", "Only those that are to be open, or only others."),
        "q": by.words("slug", "description"),
    }
    orderings = {"slug": "slug", "created_at": "created_at", "updated_at": "updated_at"}
    default_ordering = "slug"

    def paginate_queryset(self, queryset: Any) -> Any:
        """Ask once what is seen of all listeners of a page."""
        page = super().paginate_queryset(queryset)
        self._seen = listeners.seen(page or ())
        return page

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "seen": getattr(self, "_seen", None)}

    def perform_destroy(self, instance: Any) -> None:
        listeners.delete(instance, by=principal_of(self.request))

    @extend_schema(request=ResumeSerializer, responses=ListenerSerializer)
    @action(detail=True, methods=["post"])
    def enable(self, request: Request, slug: str) -> Response:
        """Open it; the edge process does within two seconds."""
        self._read(ResumeSerializer)
        return self._shown(listeners.enable(self.get_object(), by=principal_of(request)))

    @extend_schema(request=ResumeSerializer, responses=ListenerSerializer)
    @action(detail=True, methods=["post"])
    def disable(self, request: Request, slug: str) -> Response:
        """Close it and its connections; what came is stored and answered first."""
        self._read(ResumeSerializer)
        return self._shown(listeners.disable(self.get_object(), by=principal_of(request)))
