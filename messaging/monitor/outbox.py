"""Sending notices: as messages of the system `controlplane` through the ordinary intake, and by mail.

A message is stored in the transaction that marks its notice as sent, so a crash repeats nothing.
A mail can only be marked after the mail server took it: it is leased first, so that no two
processes send it, and carries a Message-ID of its own for the rare one that goes out twice.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import DatabaseError, connection, transaction

from endpoints.access import audit
from endpoints.access.principal import Principal
from endpoints.errors import ControlPlaneError
from endpoints.models import OURS, Notice, NoticeKind, NoticeState, System, SystemKind
from messaging import store
from messaging.intake.commit import store_planned
from messaging.intake.directory import DIRECTORY
from messaging.intake.envelope import read_message
from messaging.intake.plan import plan, slugs_of
from messaging.monitor import mail, wording
from messaging.wakeups import DUE, Notifier

log = structlog.get_logger(__name__)

SOURCE = OURS
MONITOR = Principal(label="monitor", role="admin", via="monitor")
BATCH = 50
RETRY_S = (5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)  # then it is given up
MAIL_LEASE_S = 120.0  # longer than a mail may take
TTL_S = 24 * 3600.0  # a notice of yesterday is no news

_due = Notifier(DUE)


def send_messages(now: datetime) -> None:
    """Hand the notices that are due to our own intake, each once."""
    waiting = Notice.objects.filter(state=NoticeState.PENDING, carrier__isnull=True, next_at__lte=now)
    ids = list(waiting.filter(target__email="").order_by("created_at", "id").values_list("pk", flat=True)[:BATCH])
    orphans = waiting.filter(target__isnull=True)
    if not ids and not orphans.exists():
        return
    orphans.update(state=NoticeState.FAILED, error="its target was deleted")
    for pk in ids:
        _send_one(pk, now)
    _due.notify()


def _send_one(pk: UUID, now: datetime) -> None:
    ensure_source()
    try:
        with transaction.atomic():
            rows = Notice.objects.select_for_update(of=("self",)).select_related("target")
            notice = rows.filter(pk=pk, state=NoticeState.PENDING).first()
            if notice is None or notice.target is None:
                return
            _fill(notice, now)
            _accept(notice)
            _mark(notice, sent_at=now)
    except ControlPlaneError as exc:
        log.warning("notice_refused", notice=str(pk), error=exc.detail)
        put_off(pk, exc.detail, now)


def _fill(notice: Notice, now: datetime) -> None:
    """Give a test its words; whoever asked for it does not know them."""
    if notice.kind == NoticeKind.TEST:
        notice.payload = wording.trial(now)


def _accept(notice: Notice) -> None:
    """Have the notice's message stored; raises ControlPlaneError as any sender would be told."""
    assert notice.target is not None
    message = {
        "message_id": f"notice-{notice.pk}",
        "source_system": SOURCE,
        "target_system": notice.target.target,
        "message_type": "notification",
        "event_type": notice.payload["event"],
        "priority": "high",
        "ordering_key": "notices",  # a resolved one never overtakes the opened one
        "ttl": TTL_S,
        # The text first, whatever order the database kept: that is where a reader of raw messages looks.
        "payload": {"text": notice.payload["text"], **notice.payload},
    }
    draft = read_message(message)
    [answer] = store_planned([plan(draft, MONITOR, DIRECTORY.look_up(slugs_of(draft, MONITOR)), [])])
    if isinstance(answer, ControlPlaneError):
        raise answer


def ensure_source() -> None:
    """Register the system that notices come from, the first time one is sent."""
    if System.objects.filter(slug=SOURCE).exists():
        return
    with transaction.atomic():
        made, is_new = System.objects.get_or_create(
            slug=SOURCE,
            defaults={
                "name": "Control plane",
                "kind": SystemKind.OTHER,
                "description": "This installation itself: notices of incidents come from here.",
            },
        )
        if is_new:
            audit.record(MONITOR, "create", made)


def put_off(pk: UUID, error: str, now: datetime) -> None:
    """Note why a notice did not go out, and when it is tried again, if ever."""
    with transaction.atomic():
        notice = Notice.objects.select_for_update(of=("self",)).filter(pk=pk, state=NoticeState.PENDING).first()
        if notice is None:
            return
        notice.tries += 1
        notice.error = error[:500]
        if notice.tries > len(RETRY_S):
            notice.state = NoticeState.FAILED
        else:
            notice.next_at = now + timedelta(seconds=RETRY_S[notice.tries - 1])
        notice.save(update_fields=["tries", "error", "state", "next_at"])
        notice.carried.update(state=notice.state, error=notice.error)


def _mark(notice: Notice, sent_at: datetime) -> None:
    notice.state, notice.sent_at, notice.error = NoticeState.SENT, sent_at, ""
    notice.save(update_fields=["state", "sent_at", "error"])
    notice.carried.update(state=NoticeState.SENT, sent_at=sent_at, error="")


class Mailer:
    """One thread that mails what is due, beside the judging: a mail server that hangs holds up nothing else."""

    def __init__(self, send: Callable[[Notice], None] = mail.send) -> None:
        self._send = send
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mail")
        self._busy: Future[None] | None = None

    def wake(self, now: datetime) -> None:
        """Mail what is due, unless that is going on already."""
        if self._busy is not None and not self._busy.done():
            return
        waiting = Notice.objects.filter(state=NoticeState.PENDING, carrier__isnull=True, next_at__lte=now)
        mails = waiting.filter(target__isnull=False).exclude(target__email="").order_by("created_at", "id")
        if ids := list(mails.values_list("pk", flat=True)[:BATCH]):
            self._busy = self._pool.submit(self._run, ids)

    def close(self) -> None:
        """Wait for the mail that is on its way."""
        self._pool.shutdown(cancel_futures=True)

    def _run(self, ids: list[UUID]) -> None:
        try:
            for pk in ids:
                self._mail(pk)
        except DatabaseError as exc:  # away, or busy: each is leased, or due as before
            log.warning("mail_database_failed", error=str(exc))
        finally:
            connection.close()

    def _mail(self, pk: UUID) -> None:
        now = store.now()
        lease = now + timedelta(seconds=MAIL_LEASE_S)
        mine = Notice.objects.filter(pk=pk, state=NoticeState.PENDING, next_at__lte=now).update(next_at=lease)
        notice = Notice.objects.filter(pk=pk).select_related("target", "incident").first() if mine else None
        if notice is None or notice.target is None:
            return
        try:
            _fill(notice, now)
            self._send(notice)
        except mail.MailError as exc:
            log.warning("mail_failed", notice=str(pk), error=str(exc))
            put_off(pk, str(exc), store.now())
        except DatabaseError:
            raise
        except Exception as exc:  # a bug, with this one: it counts as a try, and the others go out
            log.exception("mail_broken", notice=str(pk))
            put_off(pk, f"it could not be made into a mail: {type(exc).__name__}", store.now())
        else:
            _mark(notice, store.now())
