"""What a worker holds: a run, or a share of one. Everything it writes down is fenced by the token of its lease."""

import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import transaction

from testing.models import Begun, Run, RunState, Share
from testing.runner import leases
from testing.runner.results import RunResult


@dataclass(frozen=True)
class Hold(ABC):
    """A lease of ours; each method is one short transaction."""

    run_id: uuid.UUID
    token: uuid.UUID

    @abstractmethod
    def look(self) -> tuple[str, str]:
        """Return why the work has to stop and as which verdict, "" when it may go on; the lease is renewed."""

    @abstractmethod
    def is_mine(self) -> bool:
        """Say whether the lease is still ours, and keep it so until the transaction ends."""

    @abstractmethod
    def end(self, result: RunResult) -> bool:
        """Write that it is done; False when the lease was lost, and with it the right to."""

    def note(self, more: Mapping[str, int]) -> bool:
        """Count cases within the transaction that writes them; False: write nothing."""
        counts = Run.objects.select_for_update().filter(pk=self.run_id).values_list("counts", flat=True).first()
        if counts is None or not self.is_mine():
            return False
        Run.objects.filter(pk=self.run_id).update(counts=dict(Counter(counts) + Counter(more)))
        return True

    def begin(self, numbers: Sequence[int]) -> bool:
        """Write down that cases begin; False when the lease was lost, and with it the right to begin anything."""
        with transaction.atomic():
            if not self.is_mine():
                return False
            Begun.objects.bulk_create(
                [Begun(run_id=self.run_id, number=each) for each in numbers], ignore_conflicts=True
            )
        return True


class RunHold(Hold):
    """A whole run."""

    def look(self) -> tuple[str, str]:
        asked = leases.look(self.run_id, self.token)
        return asked, "cancelled" if asked else ""

    def is_mine(self) -> bool:
        held = Run.objects.select_for_update().filter(pk=self.run_id, lease_token=self.token)
        return held.values_list("pk").first() is not None

    def end(self, result: RunResult) -> bool:
        return leases.end(self.run_id, self.token, result)


@dataclass(frozen=True)
class ShareHold(Hold):
    """Some cases of a run that another worker leads."""

    share_id: uuid.UUID

    def look(self) -> tuple[str, str]:
        rows = Share.objects.filter(pk=self.share_id, lease_token=self.token, state=RunState.RUNNING)
        row = rows.values_list("run__cancelled_at", "run__state", "stop_verdict", "stop_reason").first()
        if row is None:
            return leases.TAKEN, "cancelled"
        rows.update(lease_until=leases.lease_end())
        cancelled_at, state, verdict, reason = row
        if verdict:
            return reason, verdict
        return ("cancelled", "cancelled") if cancelled_at is not None or state == RunState.ENDED else ("", "")

    def is_mine(self) -> bool:
        held = Share.objects.select_for_update().filter(pk=self.share_id, lease_token=self.token)
        return held.first() is not None

    def end(self, result: RunResult) -> bool:
        held = Share.objects.filter(pk=self.share_id, lease_token=self.token)
        return bool(held.update(state=RunState.ENDED, lease_token=None, lease_until=None))
