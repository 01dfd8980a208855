"""Group commit: one thread a process stores what many connections bring, and each is told once it is durable."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
from django.db import DataError, IntegrityError, connection
from django.db import Error as DatabaseError

from endpoints.errors import ControlPlaneError, LimitExceeded, Overloaded, Refused
from messaging.intake.commit import Answer, store_planned
from messaging.intake.plan import Planned

log = structlog.get_logger(__name__)

MAX_COMMIT_MESSAGES = 1000
MAX_COMMIT_BYTES = 8 * 1024 * 1024
MAX_WAITING_MESSAGES = 20_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_SHARE = 0.5  # of the waiting messages may be one caller's: a flood of one key leaves room for the others
ROOM_POLL_S = 0.02
# What one commit costs is shared by what it stores: where many came together last time, the next are about to come.
# Fewer commits take up to a tenth less of the processor a message; longer, and callers that wait only wait longer.
MANY = 12
GATHER_S = 0.0002
ENOUGH = 64  # messages to begin with, though the loop's turn is not over
# What is wrong with a message; whatever else the database says is no fault of a sender's.
UNSTORABLE = (DataError, IntegrityError, ArithmeticError, TypeError, ValueError)


@dataclass(slots=True)
class Submission:
    """What one caller brought, and where its answers go."""

    planned: Sequence[Planned]
    size: int
    caller: str
    loop: asyncio.AbstractEventLoop
    answers: "asyncio.Future[list[Answer]]"


@dataclass(slots=True)
class Lot:
    """What came in one turn of a loop, handed over at once: else the first of it would be stored alone."""

    submissions: list[Submission] = field(default_factory=list)
    messages: int = 0
    size: int = 0

    def add(self, submission: Submission) -> None:
        self.submissions.append(submission)
        self.messages += len(submission.planned)
        self.size += submission.size

    @property
    def is_full(self) -> bool:
        return self.messages >= MAX_COMMIT_MESSAGES or self.size >= MAX_COMMIT_BYTES


class Writer:
    """The one thread that inserts messages in this process, on Django's own connection.

    While a commit is being made durable the next one gathers: the busier the
    intake, the more messages share one commit. Waiting is bounded in messages and
    bytes; beyond that callers are refused at once and nothing is kept for them.
    """

    def __init__(self, on_commit: Callable[[], None]) -> None:
        self._on_commit = on_commit
        self._queue: queue.SimpleQueue[Lot | None] = queue.SimpleQueue()
        self._waiting_messages = 0  # touched by the loop's thread alone
        self._waiting_bytes = 0
        self._waiting_of: dict[str, int] = {}
        self._next = Lot()  # likewise
        self._last_batch = 0  # how many messages; touched by the writer's thread alone
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Store what is waiting, then end; blocks until that is done."""
        self._hand_over()
        self._queue.put(None)
        self._thread.join()

    def submit(self, planned: Sequence[Planned], caller: str) -> "asyncio.Future[list[Answer]]":
        """Return a future of the answers, true once committed.

        Raises Overloaded when too much waits already, LimitExceeded when too much of it is `caller`'s.
        """
        size = sum(item.size for item in planned) if len(planned) > 1 else planned[0].size
        if not self._has_room(len(planned), size):
            raise Overloaded("too many messages wait to be stored, try again in a second", retry_after_s=1)
        own = self._waiting_of.get(caller, 0) + len(planned)
        if own > MAX_WAITING_MESSAGES * MAX_SHARE:
            raise LimitExceeded("too many messages of this caller wait to be stored, slow down", retry_after_s=1)
        loop = asyncio.get_running_loop()
        submission = Submission(planned, size, caller, loop, loop.create_future())
        self._waiting_of[caller] = own
        self._waiting_messages += len(planned)
        self._waiting_bytes += size
        if not self._next.submissions or self._next.submissions[0].loop is not loop:
            loop.call_soon(self._hand_over)
        self._next.add(submission)
        if self._next.messages >= ENOUGH or self._next.is_full:
            self._hand_over()
        return submission.answers

    async def submit_when_room(
        self, planned: Sequence[Planned], caller: str, patience_s: float
    ) -> "asyncio.Future[list[Answer]]":
        """Submit as soon as there is room; raises what `submit` does when there is none for `patience_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while True:
            try:
                return self.submit(planned, caller)
            except (Overloaded, LimitExceeded):
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(ROOM_POLL_S)

    def _hand_over(self) -> None:
        if self._next.submissions:
            self._queue.put(self._next)
            self._next = Lot()

    def _has_room(self, messages: int, size: int) -> bool:
        return (
            self._waiting_messages + messages <= MAX_WAITING_MESSAGES
            and self._waiting_bytes + size <= MAX_WAITING_BYTES
        )

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            if batch:
                self._commit(batch)
        connection.close()

    def _commit(self, batch: list[Submission]) -> None:
        try:
            answers = self._store(batch)
        except Exception as exc:  # a writer that ended would leave every later caller waiting for ever
            log.exception("writer_failed")
            answers = self._refuse(batch, exc)
        self._answer(batch, answers)
        self._on_commit()

    def _gather(self) -> tuple[list[Submission], bool]:
        """Wait for work, then take what else is there, up to one commit's worth."""
        batch = Lot()
        is_open = True
        while not batch.is_full:
            try:
                lot = self._queue.get(block=not batch.submissions)
            except queue.Empty:
                break
            if lot is None:
                is_open = False
                break
            if not batch.submissions and self._last_batch >= MANY:
                time.sleep(GATHER_S)
            batch.submissions += lot.submissions
            batch.messages += lot.messages
            batch.size += lot.size
        self._last_batch = batch.messages
        return batch.submissions, is_open

    def _store(self, batch: list[Submission]) -> list[list[Answer]]:
        """Return the answers of every submission; a database that fails is an answer too."""
        planned = [item for submission in batch for item in submission.planned]
        try:
            answers = iter(store_planned(planned))
        except UNSTORABLE as exc:
            # One of them does not fit (its system was deleted a moment ago): it must not sink the others.
            log.warning("intake_batch_refused", messages=len(planned), error=str(exc))
            return [[self._store_alone(item) for item in submission.planned] for submission in batch]
        except DatabaseError as exc:
            return self._refuse(batch, exc)
        return [[next(answers) for _ in submission.planned] for submission in batch]

    def _store_alone(self, item: Planned) -> Answer:
        try:
            return store_planned([item])[0]
        except UNSTORABLE as exc:
            log.warning("message_refused_by_database", source=item.source.slug, error=str(exc))
            return Refused("the database refused this message; is its source or target still registered?")
        except DatabaseError as exc:
            return self._refuse([], exc, 1)[0][0]

    def _refuse(self, batch: list[Submission], exc: Exception, alone: int = 0) -> list[list[Answer]]:
        """Answer that nothing was stored; the connection is given up, since it may be the broken part."""
        log.error("intake_database_failed", error=str(exc))
        connection.close()
        error: ControlPlaneError = Overloaded(
            "the database cannot store messages now", code="database", retry_after_s=5
        )
        return [[error] * len(submission.planned) for submission in batch] or [[error] * alone]

    def _answer(self, batch: list[Submission], answers: list[list[Answer]]) -> None:
        """Hand the answers to the event loops they are awaited in, one call a loop."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Submission, list[Answer]]]] = {}
        for submission, answer in zip(batch, answers, strict=True):
            loops.setdefault(submission.loop, []).append((submission, answer))
        for loop, pairs in loops.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._resolve, pairs)

    def _resolve(self, pairs: list[tuple[Submission, list[Answer]]]) -> None:
        for submission, answers in pairs:
            self._waiting_messages -= len(submission.planned)
            self._waiting_bytes -= submission.size
            left = self._waiting_of[submission.caller] - len(submission.planned)
            if left:
                self._waiting_of[submission.caller] = left
            else:
                del self._waiting_of[submission.caller]
            if not submission.answers.done():  # the caller may have hung up
                submission.answers.set_result(answers)
