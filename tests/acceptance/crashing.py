"""Run a role of the control plane that dies at a named point, or carries a planted bug.

    python -m tests.acceptance.crashing POINT NTH web|deliver [options of the role]

A crash point is reached by wrapping one function of ours in this process alone: at
its NTH call that did something the process ends itself as SIGKILL would, after a line in its
log that says where. The product knows nothing of it. A bug ignores NTH.
"""

import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from importlib import import_module
from typing import Any

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


class Fuse:
    """Burns down with every `burn`, and then kills the process."""

    def __init__(self, point: str, nth: int) -> None:
        self._point, self._left = point, nth

    def burn(self) -> None:
        """End the process at the NTH call."""
        self._left -= 1
        if self._left <= 0:
            sys.stderr.write(f"crashed {self._point}\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # the signal is on its way


def replace(path: str, wrap: Wrap) -> None:
    """Replace the function at `package.module:name` by what `wrap` makes of it; fails where there is none."""
    module, _, name = path.partition(":")
    home = import_module(module)
    setattr(home, name, wrap(getattr(home, name)))


Plant = Callable[[Fuse], None]


def after(path: str, is_it: Callable[[Any, tuple[Any, ...]], bool]) -> Plant:
    """Crash once a call has returned for which `is_it(result, arguments)` holds."""

    def plant(fuse: Fuse) -> None:
        def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
            def crashing(*arguments: Any, **options: Any) -> Any:
                result = call(*arguments, **options)
                if is_it(result, arguments):
                    fuse.burn()
                return result

            return crashing

        replace(path, wrap)

    return plant


def after_send(fuse: Fuse, has_enough: Callable[[], bool] = lambda: True) -> None:
    """Crash with a receiver's answer in hand that is written down nowhere."""

    def wrap(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def crashing(*arguments: Any, **options: Any) -> Any:
            result = await call(*arguments, **options)
            if has_enough():
                fuse.burn()
            return result

        return crashing

    replace("messaging.engine.lane:make_attempt", wrap)


def mid_batch(fuse: Fuse) -> None:
    """Crash with half of what was claimed at once sent, and the other half not."""
    left = [0]

    def note(result: Any, arguments: tuple[Any, ...]) -> bool:
        if len(result.claims) > 1:
            left[0] = len(result.claims) // 2
        return False

    def is_half() -> bool:
        left[0] -= 1
        return left[0] == 0

    after("messaging.engine.record:turn", note)(fuse)
    after_send(fuse, is_half)


def either(*plants: Plant) -> Plant:
    """Crash at whichever of several points comes first."""

    def plant(fuse: Fuse) -> None:
        for one in plants:
            one(fuse)

    return plant


def in_steps(fuse: Fuse) -> None:
    """Write no end down in one statement, which is committed with it: there would be no moment before."""
    replace("messaging.engine.at_once:can", lambda _: lambda ended, dirty: False)


def accepted_in_steps(fuse: Fuse) -> None:
    """Accept nothing in one statement: there is no moment within."""
    replace("messaging.store:can_accept_at_once", lambda _: lambda: False)


def always(result: Any, arguments: tuple[Any, ...]) -> bool:
    return True


def has_rows(result: Any, arguments: tuple[Any, ...]) -> bool:
    return bool(result)


def has_claimed(result: Any, arguments: tuple[Any, ...]) -> bool:
    return bool(result.claims)


def has_finished(result: Any, arguments: tuple[Any, ...]) -> bool:
    return bool(result[0])


def any_claimed(result: Any, arguments: tuple[Any, ...]) -> bool:
    return any(parcel.claims for parcel in result)


def was_given_some(result: Any, arguments: tuple[Any, ...]) -> bool:
    return bool(arguments[0])


# Where a process dies. What runs within a transaction is undone by the crash, what
# returns after its commit is not.
INTAKE_POINTS: dict[str, Plant] = {
    "half stored": either(accepted_in_steps, after("messaging.store:insert_accepted", always)),
    "before commit": either(accepted_in_steps, after("messaging.store:put_idempotency_keys", always)),
    "after commit, before ack": after("messaging.intake.writer:store_planned", always),
}
PULL_POINTS: dict[str, Plant] = {
    "leased, before commit": after("messaging.store:claim", has_rows),
    "leased, before answer": after("messaging.pulling.desk:lease", any_claimed),
    "acked, before commit": after("messaging.store:finish", has_rows),
    "acked, before answer": after("messaging.pulling.desk:settle", always),
}
WEB_POINTS = INTAKE_POINTS | PULL_POINTS
ENGINE_POINTS: dict[str, Plant] = {
    # On PostgreSQL the statement is the transaction: there it is committed, and nobody here knows of it yet.
    "claimed, before commit": either(
        after("messaging.store:claim", has_rows), after("messaging.store:claim_at_once", has_claimed)
    ),
    "after claim": after("messaging.engine.record:turn", has_claimed),
    "recovered, before commit": after("messaging.store:recover", has_rows),
    "after send, before finish": after_send,
    "mid-batch": mid_batch,
    "finished, before commit": either(in_steps, after("messaging.store:finish", has_rows)),
    "after finish": either(
        after("messaging.store:finish_and_count", has_finished), after("messaging.engine.record:turn", was_given_some)
    ),
}


# --- planted bugs ------------------------------------------------------------------


@contextmanager
def _rewriting(cursors: Callable[[], Any], old: str, new: str) -> Any:
    with cursors() as cursor:
        yield _Rewriting(cursor, old, new)


class _Rewriting:
    """A cursor that asks for something else than it was told."""

    def __init__(self, cursor: Any, old: str, new: str) -> None:
        self._cursor, self._old, self._new = cursor, old, new

    def execute(self, statement: str, *arguments: Any, **options: Any) -> Any:
        return self._cursor.execute(re.sub(self._old, self._new, statement), *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def rewrite(old: str, new: str) -> Callable[[], None]:
    """Return a bug: what matches `old` in any statement of the store is replaced."""

    def plant() -> None:
        replace("messaging.store:_cursor", lambda cursors: lambda: _rewriting(cursors, old, new))

    return plant


def ack_before_commit() -> None:
    """Answer at once and store a moment later."""
    from messaging.intake.commit import Accepted, store_planned

    late: queue.SimpleQueue[tuple[float, Any]] = queue.SimpleQueue()

    def store_late() -> None:
        while True:
            at, planned = late.get()
            time.sleep(max(0.0, at - time.monotonic()))
            store_planned(planned)

    def answer(planned: Any) -> list[Any]:
        late.put((time.monotonic() + 0.3, planned))
        return [Accepted(item.draft.message_id, "accepted", len(item.owed)) for item in planned]

    threading.Thread(target=store_late, daemon=True).start()
    replace("messaging.intake.writer:store_planned", lambda _: answer)


def never_reclaim() -> None:
    """Leave what lost its worker where it is."""
    replace("messaging.store:recover", lambda _: lambda ids, now: [])


def delivered_unsent() -> None:
    """Call every tenth one delivered that was never sent."""
    from endpoints.transports.http import HttpTransport

    last: list[Any] = []
    send, calls = HttpTransport.send, iter(range(1, sys.maxsize))

    async def forgetful(self: Any, outgoing: Any) -> Any:
        if next(calls) % 10 == 0 and last:
            return last[0]
        last[:] = [await send(self, outgoing)]
        return last[0]

    HttpTransport.send = forgetful  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    "ack before commit": ack_before_commit,
    "finish without fence": rewrite(r"AND d\.state( \|\| '')? = 'sending' AND d\.lease_token = t\.token", ""),
    "no reclaim": never_reclaim,
    "claim without lease": rewrite(
        r"(\(SELECT d\.id FROM messaging_delivery d) +WHERE d\.state = 'pending'",
        r"\1 WHERE d.state IN ('pending', 'sending')",
    ),
    "delivered, never sent": delivered_unsent,
}


def main(point: str, nth: str, role: str, *options: str) -> None:
    """Plant what is asked for and run the role, as its own command would."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    import django

    django.setup()
    if point in BUGS:
        BUGS[point]()
    else:
        (WEB_POINTS if role == "web" else ENGINE_POINTS)[point](Fuse(point, int(nth)))
    if role == "web":
        sys.argv = [sys.argv[0], *options]
        import_module("controlplane.web").main()
    else:
        from django.core.management import execute_from_command_line

        execute_from_command_line(["controlplane", role, *options])


if __name__ == "__main__":
    main(*sys.argv[1:])
