"""What a worker holds stays its own while it writes: a share of a run, and the locks of its cases."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection, transaction

from endpoints.access.principal import COMMAND
from messaging import store
from testing.models import RunState, Share
from testing.runner.holding import ShareHold
from testing.runner.leases import lease_end
from testing.services import runs
from testing.services.runs import Wish

TEXT = "suite: one\ncases:\n  - case: a\n    steps: [{wait: 1ms}]\n"


def locked_elsewhere(share: Share) -> bool:
    """Say whether another connection has to wait before it changes the share."""
    try:
        with transaction.atomic():
            Share.objects.select_for_update(nowait=True).get(pk=share.pk)
    except OperationalError:
        return True
    finally:
        connection.close()
    return False


@pytest.mark.django_db(transaction=True)
def test_nobody_takes_a_share_while_its_worker_writes_results() -> None:
    """The lease is looked at and kept in one: a sweep waits until the results are written."""
    if not store.is_postgresql():
        pytest.skip("SQLite has one writer")
    run = runs.start_text(TEXT, Wish(), by=COMMAND)
    token = uuid.uuid4()
    share = Share.objects.create(run=run, state=RunState.RUNNING, lease_token=token, lease_until=lease_end())
    hold = ShareHold(run.pk, token, share.pk)
    with transaction.atomic(), ThreadPoolExecutor(1) as other:
        assert hold.note({"passed": 1})
        assert other.submit(locked_elsewhere, share).result(20)
    with transaction.atomic():
        assert not ShareHold(run.pk, uuid.uuid4(), share.pk).note({"passed": 1})
