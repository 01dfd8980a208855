"""The pages of maintenance and retirement: what they offer, refuse and show to whom."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.test import Client
from django.utils import timezone

from endpoints.models import ApiKey, AuditEntry, Maintenance, System
from messaging.models import Delivery, State
from tests.admin.conftest import MARKUP

Signed = Callable[..., Client]
PAGE = "/admin/systems/erp/maintenance/"
RETIRE = "/admin/systems/erp/retire/"
OWNER = "Finance"


def minute(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M")


def form(action: str, hours: float = 1, **fields: str) -> dict[str, str]:
    now = timezone.now()
    times = {"starts_at": minute(now), "ends_at": minute(now + timedelta(hours=hours))}
    return {**times, "reason": "new disks", "action": action, **fields}


def test_a_window_is_previewed_then_planned_then_ended(world: Any, sign_in: Signed) -> None:
    """Its start passed while the form was filled in: that means now. The end is one click; all of it is on record."""
    client = sign_in("operator", OWNER)
    waits = Delivery.objects.filter(system__slug="erp", state=State.PENDING).count()
    seen = client.post(PAGE, form("preview"))
    assert seen.status_code == 200
    assert (seen.context["seen"].waits, Maintenance.objects.count()) == (waits, 0)

    planned = client.post(PAGE, form("plan"))
    assert (planned.status_code, planned["Location"]) == (302, PAGE)
    window = Maintenance.objects.get()
    assert (window.system.slug, window.reason) == ("erp", "new disks")
    page = client.get(PAGE).content.decode()
    assert "End maintenance now" in page
    assert "new disks" in page
    assert '<b class="cp-strong">Maintenance</b> until' in client.get("/admin/systems/erp/").content.decode()
    assert 'cp-badge--info">maintenance' in client.get("/admin/endpoints/system/").content.decode()

    before = window.ends_at
    client.post(PAGE, {"action": "extend", "window": str(window.pk)})
    window.refresh_from_db()
    assert window.ends_at - before == timedelta(hours=1)
    client.post(PAGE, {"action": "end_all"})
    window.refresh_from_db()
    assert window.ends_at <= timezone.now() + timedelta(seconds=1)
    actions = AuditEntry.objects.filter(object_type="maintenance").order_by("at").values_list("action", "via")
    assert list(actions) == [("create", "admin"), ("update", "admin"), ("end", "admin")]


def test_the_times_are_utc_as_the_script_sends_them(world: Any, sign_in: Signed) -> None:
    """What was typed is in the reader's zone; beside it stands the same in UTC, which counts."""
    ends = timezone.now() + timedelta(hours=2)
    sent = form("plan", ends_at="2099-01-01T00:00", ends_at_utc=minute(ends))
    assert sign_in("operator", OWNER).post(PAGE, sent).status_code == 302
    assert minute(Maintenance.objects.get().ends_at) == minute(ends)


def test_what_makes_no_window_is_said_at_its_field(world: Any, sign_in: Signed) -> None:
    client = sign_in("operator", OWNER)
    for given, field in (
        ({"hours": -1}, "ends_at"),
        ({"ends_at": "soon"}, "ends_at"),
        ({"reason": "x" * 600}, "reason"),
    ):
        answer = client.post(PAGE, form("plan", **given))  # type: ignore[arg-type]
        assert answer.status_code == 422
        assert field in answer.context["form"].errors, given
    assert client.post(PAGE, {"action": "end", "window": "nonsense"}).status_code == 404
    assert not Maintenance.objects.exists()


def test_a_viewer_sees_windows_and_plans_none(world: Any, sign_in: Signed) -> None:
    client = sign_in("viewer", OWNER)
    assert "Plan maintenance" not in client.get(PAGE).content.decode()
    for action in ("plan", "preview", "end_all"):
        assert client.post(PAGE, form(action)).status_code == 403


def test_pages_of_another_teams_system_are_not_there(world: Any, sign_in: Signed) -> None:
    client = sign_in("admin", "Sales")
    for path in (PAGE, RETIRE):
        assert client.get(path).status_code == 404
        assert client.post(path, form("plan")).status_code == 404


def test_markup_in_a_reason_and_a_name_stays_text(world: Any, sign_in: Signed) -> None:
    erp = System.objects.get(slug="erp")
    now = timezone.now()
    for start in (-5, -1, 5):
        Maintenance.objects.create(
            system=erp,
            starts_at=now + timedelta(hours=start),
            ends_at=now + timedelta(hours=start + 3),
            reason=MARKUP,
            created_by=MARKUP,
        )
    ApiKey.objects.create(name=MARKUP, secret_hash="x", role="operator", system=erp)
    client = sign_in("superuser")
    for path in (PAGE, RETIRE, "/admin/systems/erp/"):
        page = client.get(path).content.decode()
        assert "<script>alert" not in page
        assert "onerror=alert" not in page.replace("&lt;img src=x onerror=alert(2)&gt;", "")


def test_retiring_shows_what_hangs_on_it_first(world: Any, sign_in: Signed) -> None:
    """Dependents, keys and counts; drained by one button, cancelled by another, undone by a third."""
    erp, crm = System.objects.get(slug="erp"), System.objects.get(slug="crm")
    crm.depends_on.add(erp)
    ApiKey.objects.create(name="erp-nightly", secret_hash="y", role="operator", system=erp)
    client = sign_in("editor", OWNER, "Sales")
    page = client.get(RETIRE).content.decode()
    assert ">crm</a>" in page
    assert "key stops" in page
    assert "erp-nightly" not in page  # names of keys are for those who manage them
    assert "erp-nightly" in sign_in("superuser").get(RETIRE).content.decode()
    assert client.post(RETIRE, {"action": "drain"}).status_code == 302
    erp.refresh_from_db()
    assert (erp.state, erp.retirement) == ("retired", "draining")
    assert ApiKey.objects.get(name="erp-nightly").revoked_at is not None
    assert "still being delivered" in client.get("/admin/systems/erp/").content.decode()
    client.post(RETIRE, {"action": "cancel"})
    erp.refresh_from_db()
    assert erp.retirement == "cancelling"
    client.post(RETIRE, {"action": "unretire"})
    erp.refresh_from_db()
    assert (erp.state, erp.retirement) == ("active", "")
    assert client.post(RETIRE, {"action": "other"}).status_code == 403
