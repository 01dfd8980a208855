"""How suites read in the API as documents: drafts, versions, and many at once."""

from typing import Any

from django.contrib.auth.models import Group
from rest_framework import serializers

from endpoints.edge.strict_shape import Strict
from testing.models import SuiteVersion
from testing.serializers import DocumentSerializer
from testing.services.documents import MOST_DOCUMENTS

MOST_OPENAPI = 1_400_000
DRAFTED_FROM = ("message", "delivery", "curl", "openapi", "openapi_url")


class DraftRequestSerializer(Strict):
    """What a first suite is to be made from: exactly one of these, with `system` naming whom it is to ask."""

    message = serializers.CharField(max_length=128, required=False, help_text="Id of a message.")
    source_system = serializers.CharField(max_length=63, required=False, help_text="Whose, when several used the id.")
    delivery = serializers.UUIDField(required=False, help_text="Id of a delivery, such as a dead letter.")
    curl = serializers.CharField(max_length=100_000, required=False)
    openapi = serializers.CharField(max_length=MOST_OPENAPI, required=False, help_text="An OpenAPI 3 document.")
    openapi_url = serializers.CharField(max_length=2000, required=False, help_text="Where one is to be fetched.")
    system = serializers.CharField(
        max_length=127, required=False, help_text="By itself: is it there? Else whom a curl line or document asks."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in DRAFTED_FROM if name in attrs]
        if len(given) > 1 or (not given and "system" not in attrs):
            raise serializers.ValidationError({"message": f"give one of {', '.join(DRAFTED_FROM)}, or a system."})
        return attrs


class DraftSerializer(serializers.Serializer[Any]):
    """A first suite: nothing of it is stored."""

    suite = serializers.CharField(source="slug", help_text="Its slug; no suite has it yet.")
    text = serializers.CharField()
    remarks = serializers.ListField(child=serializers.CharField(), help_text="What a person should know of it.")


class NamedDocumentSerializer(DocumentSerializer):
    """A document with the name that faults are told by."""

    name = serializers.CharField(max_length=200, required=False)


class ImportSerializer(Strict):
    """Documents to store together, and whose the new ones are to be."""

    documents = NamedDocumentSerializer(many=True, allow_empty=False, max_length=MOST_DOCUMENTS)  # type: ignore[call-arg]
    owner: Any = serializers.SlugRelatedField(
        slug_field="name", queryset=Group.objects.all(), allow_null=True, required=False, default=None
    )
    dry_run = serializers.BooleanField(required=False, default=False, help_text="Only say what would be done.")


class TakenSerializer(serializers.Serializer[Any]):
    """What became of one document."""

    name = serializers.CharField()
    suite = serializers.CharField()
    outcome = serializers.ChoiceField(["created", "changed", "unchanged"])
    version = serializers.IntegerField()


class ImportedSerializer(serializers.Serializer[Any]):
    """What became of all of them."""

    dry_run = serializers.BooleanField()
    results = TakenSerializer(many=True)


class VersionSerializer(serializers.ModelSerializer[SuiteVersion]):
    """One version, without its document."""

    class Meta:
        model = SuiteVersion
        fields: tuple[str, ...] = ("number", "digest", "created_by", "created_at")
        read_only_fields = fields


class VersionDetailSerializer(VersionSerializer):
    """One version with its document, byte for byte."""

    class Meta(VersionSerializer.Meta):
        fields = (*VersionSerializer.Meta.fields, "text")
        read_only_fields = fields


class DifferenceSerializer(serializers.Serializer[Any]):
    """The lines that differ between two versions: each begins with +, -, a space or @@."""

    before = serializers.IntegerField(help_text="0: nothing.")
    after = serializers.IntegerField()
    lines = serializers.ListField(child=serializers.CharField(trim_whitespace=False))
