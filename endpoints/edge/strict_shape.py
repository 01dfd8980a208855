"""Bodies of requests, read as strictly as the JSON they come in."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from rest_framework import serializers

from endpoints.access.principal import Principal


class Strict(serializers.Serializer):
    """Refuses fields it does not read, instead of passing over them: a typo must not look like success."""

    def get_fields(self) -> Any:
        """Return the fields; those of a choice say what there is to choose from."""
        fields = super().get_fields()
        for field in fields.values():
            if isinstance(field, serializers.ChoiceField):
                known = ", ".join(str(choice) for choice in field.choices if choice != "")
                field.error_messages["invalid_choice"] = f"'{{input}}' is none of {known}."
        return fields

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            errors = {
                name: ["This field is read-only." if name in self.fields else self._unknown(name)]
                for name in map(str, data)
                if name not in self.fields or self.fields[name].read_only
            }
            if errors:
                raise serializers.ValidationError(errors, code="unknown_field")
        return super().to_internal_value(data)

    def _unknown(self, name: str) -> str:
        near = get_close_matches(name, [known for known, field in self.fields.items() if not field.read_only], n=1)
        return f"This field is not known; did you mean {near[0]}?" if near else "This field is not known."

    @property
    def principal(self) -> Principal:
        found: Principal = self.context["request"].user
        return found
