"""What every way of making a first suite ends in: a document that the checker has read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from endpoints.errors import Refused
from testing.document.reader import read_suite
from testing.drafting.cleaning import Cleaner
from testing.drafting.writing import Row, write
from testing.errors import BadDocument

LABEL = "draft"
LONGEST_SLUG = 63


@dataclass(frozen=True, slots=True)
class Draft:
    """A suite to edit: its slug, its text, and what a person should know of it."""

    slug: str
    text: str
    remarks: tuple[str, ...]


def slug_of(*words: str) -> str:
    """Return a slug of some words."""
    joined = re.sub(r"[^a-z0-9]+", "-", "-".join(filter(None, words)).lower())
    return joined.strip("-")[:LONGEST_SLUG].strip("-") or "suite"


def finish(slug: str, title: str, body: Mapping[str, Any], remarks: Sequence[str], cleaner: Cleaner) -> Draft:
    """Return the draft of a document; raises Refused when what was copied cannot stand in one."""
    document: dict[str, Any] = {"suite": slug, "title": cleaner.said(title)[:200], "labels": Row([LABEL])}
    document |= {name: part for name, part in body.items() if name != "cases"}
    if cleaner.vars:
        document["vars"] = cleaner.vars
    document["cases"] = body["cases"]
    told = (*remarks, *cleaner.remarks)
    text = write(document, told)
    try:
        read_suite(text)
    except BadDocument as exc:
        raise Refused(f"no suite can be made of it: {exc.detail}", code="no_draft") from exc
    return Draft(slug, text, told)
