"""Suites as documents: their versions side by side, and many at once from and to files."""

import difflib
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet

from endpoints.access import roles
from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError, NotFound, Refused
from testing.document.reader import read_suite
from testing.errors import BadDocument
from testing.models import Suite, SuiteVersion
from testing.services import suites

MOST_DOCUMENTS = 500
LONGEST_DIFF = 5_000  # lines of either side: what is longer is told apart by its digest alone


@dataclass(frozen=True, slots=True)
class Document:
    """A text, and where it is from: the name of a file, or a place in a request."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one document: `created`, `changed` or `unchanged`; `deleted` is said of a suite of no document."""

    name: str
    suite: str
    outcome: str
    version: int | None


def versions(suite: Suite) -> QuerySet[SuiteVersion]:
    """Return what was saved of a suite, the newest first."""
    return SuiteVersion.objects.filter(suite=suite).order_by("-number")


def version(suite: Suite, number: int) -> SuiteVersion:
    """Return one version; raises NotFound."""
    found = versions(suite).filter(number=number).first()
    if found is None:
        raise NotFound(f"'{suite.slug}' has no version {number}")
    return found


def difference(before: str, after: str, around: int = 3) -> list[tuple[str, str]]:
    """Return the lines that differ, and those around them, as (sign, line): the sign is + - or a space, @ for a gap."""
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > LONGEST_DIFF:
        return [("@", f"too long to compare: {len(old):,} and {len(new):,} lines")] * (before != after)
    return list(_lines(old, new, around))


def _lines(old: Sequence[str], new: Sequence[str], around: int) -> Iterator[tuple[str, str]]:
    for line in list(difflib.unified_diff(old, new, n=around, lineterm=""))[2:]:
        yield ("@", line) if line.startswith("@@") else (line[:1], line[1:])


def take(
    documents: Iterable[Document],
    *,
    by: Principal,
    owner: Group | None = None,
    dry_run: bool = False,
    prune: bool = False,
) -> list[Taken]:
    """Store documents as suites, new ones and new versions: all of them, or none when one is refused.

    With `prune`, suites that no document names are deleted. Raises Forbidden, and Refused
    with every fault of every document.
    """
    roles.require(by, "suites", "update")
    found = list(documents)
    _check(found)
    with transaction.atomic():
        done = [_take(document, by, owner) for document in found]
        if prune:
            done += _prune({taken.suite for taken in done}, by)
        if dry_run:
            transaction.set_rollback(True)
    return done


def _check(documents: Sequence[Document]) -> None:
    """Raise Refused naming all that is wrong, by document, line and column."""
    if not 1 <= len(documents) <= MOST_DOCUMENTS:
        raise Refused(f"give 1 to {MOST_DOCUMENTS} documents, not {len(documents)}", code="bad_suite")
    errors: list[dict[str, str]] = []
    slugs: dict[str, str] = {}
    for document in documents:
        try:
            slug = read_suite(document.text, document.name).slug
        except BadDocument as exc:
            errors += [{**error, "field": f"{document.name}: {error['field']}".rstrip(": ")} for error in exc.errors]
            continue
        if slug in slugs:
            detail = f"suite '{slug}' is in {slugs[slug]} already"
            errors.append({"field": document.name, "code": "invalid", "detail": detail})
        slugs[slug] = document.name
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Refused(f"{told(errors[0])}{more}", code="bad_suite", errors=errors)


def told(error: dict[str, str]) -> str:
    """Return a fault in one line."""
    place = f" (line {error['line']}, column {error['column']})" if "line" in error else ""
    return f"{error['field']}{place}: {error['detail']}"


def _take(document: Document, by: Principal, owner: Group | None) -> Taken:
    slug = read_suite(document.text, document.name).slug
    before = Suite.objects.visible_to(by).filter(slug=slug).first()
    try:
        if before is None:
            return Taken(document.name, slug, "created", suites.create(document.text, by=by, owner=owner).version)
        after = suites.change(before, document.text, by=by)
    except ControlPlaneError as exc:
        raise Refused(f"{document.name}: {exc.detail}", code=exc.code, errors=exc.errors) from exc
    outcome = "unchanged" if after.version == before.version else "changed"
    return Taken(document.name, slug, outcome, after.version)


def _prune(named: set[str], by: Principal) -> list[Taken]:
    done = []
    for suite in Suite.objects.visible_to(by).exclude(slug__in=named).order_by("slug"):
        suites.delete(suite, by=by)
        done.append(Taken("", suite.slug, "deleted", None))
    return done


def file_name(suite: Suite) -> str:
    """Return what a file of the suite is called: JSON where the document is."""
    return f"{suite.slug}.{'json' if suite.text.lstrip().startswith('{') else 'yaml'}"


def archive(found: Iterable[Suite]) -> bytes:
    """Return a ZIP of one file for each suite, byte for byte; the same suites give the same bytes."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as files:
        for suite in found:
            files.writestr(zipfile.ZipInfo(file_name(suite)), suite.text.encode(), zipfile.ZIP_DEFLATED)
    return into.getvalue()
