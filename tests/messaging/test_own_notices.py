"""The system `controlplane` is this installation: it belongs to nobody, and is nobody's to speak as or to listen to."""

import pytest

from endpoints.models import OURS
from tests.messaging.api_client import Api
from tests.messaging.factories import make_attempt, make_delivery, make_key, make_message, make_system, make_team

pytestmark = pytest.mark.django_db


def test_a_team_sees_the_notices_it_gets_and_no_others(operator: Api) -> None:
    """What another team is told of its incidents is not ours to read, to cancel or to find."""
    red, blue = make_team("red"), make_team("blue")
    notice = make_delivery(make_message(make_system(OURS)), make_system("red-chat", owner=red))
    attempt = make_attempt(notice)
    paths = (
        f"messages/{notice.message.message_id}/",
        f"deliveries/{notice.pk}/",
        f"attempts/{attempt.pk}/",
        f"deliveries/{notice.pk}/why/",
    )
    owner, other = Api(make_key("operator", team=red)), Api(make_key("operator", team=blue))

    assert {owner.get(path)[0] for path in paths} == {200}
    assert {other.get(path)[0] for path in paths} == {404}
    assert {operator.get(path)[0] for path in paths} == {200}
    assert other.results("deliveries/", source_system=OURS) == other.results("messages/") == []


@pytest.mark.parametrize("role", ["editor", "admin"])
def test_nobody_registers_renames_or_changes_this_installation(db: None, role: str) -> None:
    """Whoever had it could choose what our notices say of themselves, and to whom they may go."""
    team = make_team("red")
    caller = Api(make_key(role, team=team if role == "editor" else None))
    own = make_system("own", owner=team)
    taken = caller.post("systems/", {"slug": OURS, "name": "Ours", "owner": "red"})
    renamed = caller.patch(f"systems/{own.slug}/", {"slug": OURS})
    make_system(OURS)
    changed = caller.patch(f"systems/{OURS}/", {"max_message_bytes": 1})
    moved = caller.patch(f"systems/{OURS}/", {"slug": "theirs"})
    deleted = caller.delete(f"systems/{OURS}/")

    assert {(status, body["code"]) for status, body in (taken, renamed, changed, moved, deleted)} == {(409, "ours")}


def test_nobody_retires_this_installation(admin: Api) -> None:
    make_system(OURS)
    status, body = admin.post(f"systems/{OURS}/retire/", {"drain": True})

    assert (status, body["code"]) == (409, "ours")
