"""The filter table: what each kind of filter reads, and what it selects on either database."""

import contextlib
from typing import Any

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from endpoints.edge import filters
from endpoints.errors import Malformed
from endpoints.models import System


class Query:
    """A request as far as filters go: its query."""

    def __init__(self, text: str) -> None:
        self.query_params = QueryDict(text)


TABLE = {
    "tag": filters.member("tags"),
    "active": filters.boolean("accepts_broadcast"),
    "kind": filters.choice("kind", ["service", "device"]),
    "q": filters.words("slug", "name"),
    "size": filters.number("max_message_bytes__gte", 1, 10),
    "since": filters.moment("created_at__gte"),
    "id": filters.identifier("id"),
}


def found(query: str) -> list[str]:
    request: Any = Query(query)
    return sorted(row.slug for row in filters.apply(TABLE, request, System.objects.all()))


@pytest.mark.parametrize("tag", ["blue", "it's", '"quoted"', "ünï", "a%b_c", "$.x", "100"])
def test_member_finds_the_very_text_in_a_json_list(db: None, tag: str) -> None:
    """The same on both databases: not a part of a text, not another case, not a number."""
    System.objects.create(slug="wanted", name="x", tags=["other", tag])
    System.objects.create(slug="near", name="x", tags=[f"{tag}x", tag.upper() + "X", 100, {tag: 1}])
    System.objects.create(slug="none", name="x", tags=[])
    query = QueryDict(mutable=True)
    query["tag"] = tag

    assert found(query.urlencode()) == ["wanted"]


def test_words_find_parts_in_any_case_and_take_no_wildcards(db: None) -> None:
    System.objects.create(slug="billing", name="Money")
    System.objects.create(slug="crm", name="100% sure")

    assert found("q=MON") == ["billing"]
    assert found("q=%25") == ["crm"]
    assert found("q=_") == []


@pytest.mark.parametrize("wanted", ["ärger", "ÄRGER", "ger öl", "ÖLWERK (Süd)", "(süd) + 1.5", "ß", "\u0416"])
def test_words_find_letters_of_any_alphabet_in_any_case(db: None, wanted: str) -> None:
    """Whatever the database knows of cases; what is no letter stands for itself."""
    System.objects.create(slug="south", name="Ärger Ölwerk (Süd) + 1.5 straße \u0436")
    System.objects.create(slug="other", name="Arger Olwerk (Sud) + 125 strasse (s\u00fcd) + 1x5 Gro\u00e9")
    query = QueryDict(mutable=True)
    query["q"] = wanted

    assert found(query.urlencode()) == ["south"]


def test_a_choice_takes_several_values_by_comma_or_repeated(db: None) -> None:
    System.objects.create(slug="a", name="a", kind="service")
    System.objects.create(slug="b", name="b", kind="device")
    System.objects.create(slug="c", name="c", kind="cache")

    assert found("kind=service,device") == found("kind=service&kind=device") == ["a", "b"]


@pytest.mark.parametrize(
    "query", ["active=yes", "active=", "active=true&active=true", "kind=cache", "size=0", "size=1e1"]
)
def test_a_value_that_does_not_fit_is_malformed(query: str) -> None:
    with pytest.raises(Malformed) as caught:
        found(query)
    assert caught.value.errors[0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05+00:00"),
        ("2026-01-02T03:04:05 02:00", "2026-01-02T01:04:05+00:00"),
        ("2026-01-02", "2026-01-02T00:00:00+00:00"),
    ],
)
def test_a_moment_is_read_in_utc(text: str, expected: str) -> None:
    """A '+' that was not percent-encoded arrives as a space, and is forgiven."""
    assert filters.parse_moment(text).isoformat() == expected


@given(st.sampled_from(sorted(TABLE)), st.text())
def test_no_text_breaks_a_filter(name: str, value: str) -> None:
    """Every text is either read or refused with a reason."""
    query = QueryDict(mutable=True)
    query[name] = value
    request: Any = Query("")
    request.query_params = query
    with contextlib.suppress(Malformed):
        filters.apply(TABLE, request, System.objects.all())
