"""What senders are told: of one message, of each of a batch, of a stream in sum."""

from collections.abc import Sequence
from typing import Any

import orjson

from messaging.intake.commit import Accepted, Answer

MAX_LISTED = 1000


def accepted(answer: Accepted) -> bytes:
    """Return the body that answers a single message."""
    return orjson.dumps({"message_id": answer.message_id, "status": answer.status, "deliveries": answer.deliveries})


class Tally:
    """Counts the answers of a stream and lists the rejected ones, the first thousand."""

    def __init__(self) -> None:
        self.counts = {"accepted": 0, "duplicate": 0, "rejected": 0}
        self.results: list[dict[str, Any]] = []
        self._index = 0

    def add(self, answers: Sequence[Answer], names: Sequence[str | None], *, list_all: bool = False) -> None:
        """Count the answers to messages that name themselves so."""
        for answer, name in zip(answers, names, strict=True):
            result = result_of(self._index, answer, name)
            self.counts[result["status"]] += 1
            if list_all or (result["status"] == "rejected" and len(self.results) < MAX_LISTED):
                self.results.append(result)
            self._index += 1

    def body(self) -> bytes:
        return orjson.dumps({**self.counts, "results": self.results})

    def text(self) -> str:
        """Say how far a stream came that could not be read to its end."""
        return ", ".join(f"{count} {status}" for status, count in self.counts.items())


def summary(answers: Sequence[Answer], names: Sequence[str | None]) -> bytes:
    """Return the body that answers a batch, every message listed; `names` are the ids they give themselves."""
    tally = Tally()
    tally.add(answers, names, list_all=True)
    return tally.body()


def result_of(index: int, answer: Answer, name: str | None) -> dict[str, Any]:
    """Return one entry of a batch's `results`."""
    if isinstance(answer, Accepted):
        return {"index": index, "message_id": answer.message_id, "status": answer.status, "code": None, "detail": None}
    return {"index": index, "message_id": name, "status": "rejected", "code": answer.code, "detail": answer.detail}
