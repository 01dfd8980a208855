"""How packs read in the API, and what an installed one is made of."""

from typing import Any

from django.contrib.auth.models import Group
from rest_framework import serializers

from endpoints.edge.strict_shape import Strict


class PackTargetSerializer(serializers.Serializer[Any]):
    """What a pack needs behind one of its aliases."""

    alias = serializers.CharField()
    system = serializers.CharField(help_text="What it stands for unless another is named.")
    protocols = serializers.ListField(child=serializers.CharField(), help_text="One of them.")
    does = serializers.CharField(help_text="What has to answer there, and how.")


class InstalledSerializer(serializers.Serializer[Any]):
    """A suite that was made of a pack."""

    slug = serializers.CharField()
    version = serializers.IntegerField(help_text="1 as long as nobody changed it.")


class PackSerializer(serializers.Serializer[Any]):
    """A pack in the list: what it shows, and what it needs for it."""

    name = serializers.CharField()
    title = serializers.CharField()
    type = serializers.CharField()
    about = serializers.CharField()
    example = serializers.CharField(help_text="How a server to try it against is started, if one comes along.")
    targets = PackTargetSerializer(many=True)
    vars = serializers.DictField(help_text="Replaceable at run time.")
    cases = serializers.ListField(child=serializers.CharField())
    installed = InstalledSerializer(many=True, help_text="Your suites that were made of it.")


class PackDetailSerializer(PackSerializer):
    """One pack with its suite."""

    text = serializers.CharField()


class PackListSerializer(serializers.Serializer[Any]):
    """All packs: they are few, and come on one page."""

    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = PackSerializer(many=True)


class InstallSerializer(Strict):
    """What of the suite is to be different from the pack."""

    slug = serializers.CharField(
        max_length=63, required=False, default="", allow_blank=True, help_text="The pack's name unless given."
    )
    systems = serializers.DictField(
        child=serializers.CharField(max_length=127), required=False, default=dict, help_text="alias: system[/interface]"
    )
    owner: Any = serializers.SlugRelatedField(
        slug_field="name", queryset=Group.objects.all(), allow_null=True, required=False, default=None
    )
