"""The format's JSON Schema, made from the tables that the checker reads by."""

from typing import Any

from testing.document.shapes import SUITE
from testing.document.steps import CLEANUP, STEP


def suite_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a suite."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Suite, format version 1",
        **SUITE.schema(),
        "$defs": {"step": STEP.definition(), "cleanup": CLEANUP.definition()},
    }
