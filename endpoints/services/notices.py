"""Who is told of incidents: registered, changed, removed and tried out, all audited."""

import math
import re
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from endpoints.access import audit, roles
from endpoints.access.principal import Principal
from endpoints.errors import Conflict, Forbidden, LimitExceeded, Malformed, NotFound
from endpoints.models import AuditEntry, Notice, NoticeKind, NoticeState, NoticeTarget, System
from endpoints.services.registry import difference

RESOURCE = "notice-targets"
EVERYONES = "name one of your teams: who is told of everyone's incidents is for those to say who see every team"
TARGET = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:/[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)?")

NO_SERVER = "no mail server is configured: set EMAIL_URL and start anew"
MOST_TESTS, TESTS_WITHIN = 5, timedelta(minutes=1)  # of one target, and by one caller


def save_target(target: NoticeTarget, *, by: Principal, action: str = "create") -> NoticeTarget:
    """Store who is to be told; raises Malformed, Forbidden for another team, Conflict for one that is there already."""
    roles.require(by, RESOURCE, action)
    with transaction.atomic():
        before = _lock(target, by) if action == "update" else None
        _settle_team(target, before, by)
        _check(target, by)
        target.full_clean(validate_unique=False, validate_constraints=False)
        target.save()
        if changes := difference(before, target):
            audit.record(by, action, target, changes)
    return target


def delete_target(target: NoticeTarget, *, by: Principal) -> None:
    """Tell this target nothing any more; what it was told stays in history, for those who see every team."""
    roles.require(by, RESOURCE, "destroy")
    with transaction.atomic():
        stored = _lock(target, by)
        if by.team_ids is not None and stored.team_id is None:
            raise Forbidden(EVERYONES)
        audit.record(by, "delete", stored, difference(stored, None))
        stored.delete()


def test_target(target: NoticeTarget, *, by: Principal) -> Notice:
    """Have a notice sent that only shows that notices arrive; the monitor sends it within seconds.

    Raises LimitExceeded for one who asks for more than somebody can read.
    """
    roles.require(by, RESOURCE, "test")
    now = timezone.now()
    with transaction.atomic():
        stored = _lock(target, by)
        _check_tests(stored, by, now)
        made: Notice = Notice.objects.create(
            target=stored, told=str(stored), kind=NoticeKind.TEST, next_at=now, created_at=now
        )
        audit.record(by, "test", stored)
    return made


def problem_of(target: NoticeTarget) -> str:
    """Return why the latest notice to this target has not gone out, or none could; "" when nothing is known."""
    if target.email and "EMAIL_URL" not in settings.ENV.given:
        return NO_SERVER
    latest = Notice.objects.filter(target=target, carrier__isnull=True).order_by("-created_at", "-id").first()
    return latest.error if latest is not None and latest.state != NoticeState.SENT else ""


def _lock(target: NoticeTarget, by: Principal) -> NoticeTarget:
    rows = NoticeTarget.objects.visible_to(by).select_for_update(of=("self",))
    found: NoticeTarget | None = rows.filter(pk=target.pk).first()
    if found is None:
        raise NotFound("there is nothing here, or it is not yours to see")
    return found


def _check_tests(target: NoticeTarget, by: Principal, now: datetime) -> None:
    """Raise LimitExceeded after so many tests within a minute; the audit knows them, also of targets deleted since."""
    tests = AuditEntry.objects.filter(object_type="noticetarget", action="test", at__gt=now - TESTS_WITHIN)
    for asked in (tests.filter(object_id=str(target.pk)), tests.filter(actor=by.label[:200])):
        times = list(asked.order_by("-at").values_list("at", flat=True)[:MOST_TESTS])
        if len(times) == MOST_TESTS:
            wait_s = max(1, math.ceil((times[-1] + TESTS_WITHIN - now).total_seconds()))
            raise LimitExceeded(f"{MOST_TESTS} tests a minute are enough, wait {wait_s} s", retry_after_s=wait_s)


def _settle_team(target: NoticeTarget, before: NoticeTarget | None, by: Principal) -> None:
    """Hold the caller to its teams: only who sees every team has everyone's incidents told."""
    if by.team_ids is None or (before is not None and before.team_id == target.team_id and before.team_id):
        return
    if before is None and target.team_id is None and len(by.team_ids) == 1:
        [target.team_id] = by.team_ids
    if target.team_id not in by.team_ids or (before is not None and before.team_id is None):
        raise Forbidden(EVERYONES)


def _check(target: NoticeTarget, by: Principal) -> None:
    if bool(target.target) == bool(target.email):
        raise _invalid("target", "give either a system or a mail address")
    if not target.target:
        return
    if not TARGET.fullmatch(target.target):
        raise _invalid("target", "must read system or system/interface")
    system, _, interface = target.target.partition("/")
    found: Any = System.objects.visible_to(by).filter(slug=system).first()
    if found is None:
        raise _invalid("target", f"there is no system '{system}'")
    if not found.endpoints.filter(interface=interface or "main").exists():
        raise _invalid("target", f"{system} has no endpoint of interface '{interface or 'main'}'")
    same = NoticeTarget.objects.filter(target=target.target, team_id=target.team_id).exclude(pk=target.pk)
    if same.exists():
        raise Conflict(f"{target.target} is told already", code="taken")


def _invalid(field: str, detail: str) -> Malformed:
    errors = [{"field": field, "code": "invalid", "detail": detail}]
    return Malformed(f"{field}: {detail}", code="invalid", errors=errors)
