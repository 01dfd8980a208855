"""What a worker holds stays its own while it writes: a share of a run, and the locks of its cases."""

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from endpoints.access.principal import COMMAND
from endpoints.edge.database_threads import DatabaseThreads
from messaging import store
from testing.models import Lock, Run, RunState, Share
from testing.runner import locking
from testing.runner.holding import ShareHold
from testing.runner.leases import lease_end
from testing.runner.locking import Locks
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


@pytest.mark.django_db(transaction=True)
def test_a_lock_that_cannot_be_given_back_holds_up_nobody_in_the_run() -> None:
    """What the database does not hear of falls free with its lease; the others are given back, all turns at once."""
    run = runs.start_text(TEXT, Wish(), by=COMMAND)
    asyncio.run(_hand_on(run))
    assert list(Lock.objects.values_list("name", flat=True)) == [":b"]


async def _hand_on(run: Run) -> None:
    database = DatabaseThreads("test")

    async def ask(call: Callable[..., Any], *arguments: Any) -> Any:
        if call is locking.unlock and arguments[0] == ":b":
            raise OperationalError("the connection is lost")
        return await database.run(call, *arguments)

    locks = Locks(run, ask)
    names = ("a", "b", "c")
    taken = await locks.take(names, lambda: False)
    assert taken is not None
    await locks.give_back(taken)
    assert not locks.held
    async with asyncio.timeout(20):
        assert await locks.take(names, lambda: True) is None  # each turn is free: it looks, and the run is over
        again = await locks.take(("a", "c"), lambda: False)
        await locks.give_back(again or ())
    database.shutdown()
