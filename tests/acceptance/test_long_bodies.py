"""Long bodies, as embeddings and exports are: nobody else waits while one is read, and none is read in vain."""

import threading
import time
from typing import Any

import pytest
import requests

from tests.acceptance.link import Link
from tests.stack import Stack

MIB = 1024 * 1024
LONG = b"1.5," * 200_000  # a message of these is as long as a system may send, if nothing else is said


@pytest.fixture
def link(shared_stack: Stack) -> Link:
    return Link(shared_stack, "http://127.0.0.1:9")


def message(link: Link, numbers: bytes) -> bytes:
    return b'{"source_system":"%s","target_system":"%s","payload":[%s1]}' % (
        link.source.encode(),
        link.target.encode(),
        numbers,
    )


def post(link: Link, body: bytes, content_type: str = "application/json") -> requests.Response:
    headers = {"Content-Type": content_type}
    return link.stack.api("POST", "messages/", data=body, headers=headers, timeout=100)


def waited_beside(stack: Stack, call: Any) -> float:
    """Return the longest that another request was answered after while `call` went on."""
    session, worst = requests.Session(), 0.0
    thread = threading.Thread(target=call)
    thread.start()
    while thread.is_alive():
        begun = time.monotonic()
        assert session.get(f"{stack.url}/nowhere", timeout=100).status_code == 404
        worst = max(worst, time.monotonic() - begun)
        time.sleep(0.01)
    return worst


def test_what_nobody_may_send_is_not_read(shared_stack: Stack, link: Link) -> None:
    """25 MiB of numbers take a process seconds to parse, and the system may send one."""
    answers: list[requests.Response] = []
    body = message(link, b"1.5," * (6 * MIB))

    waited = waited_beside(shared_stack, lambda: answers.append(post(link, body)))

    assert answers[0].status_code == 413
    assert answers[0].json()["code"] == "too_large"
    assert "1048576" not in answers[0].json()["detail"]  # an envelope may be longer than what is in it
    assert waited < 1.5


def test_a_long_batch_is_read_message_by_message(shared_stack: Stack, link: Link) -> None:
    answers: list[requests.Response] = []
    body = b" [\n" + b" ,\n".join([message(link, LONG)] * 16) + b"\n] "

    waited = waited_beside(shared_stack, lambda: answers.append(post(link, body)))

    assert answers[0].status_code == 202
    assert answers[0].json()["accepted"] == 16
    assert waited < 2


def test_each_message_of_a_long_batch_is_answered(link: Link) -> None:
    """As in a short one: what cannot be stored sinks none of the others."""
    too_long = message(link, b"1.5," * MIB)
    body = b"[" + b",".join([message(link, LONG), b'{"payload":1,"x":"]}"}', too_long, message(link, b"")]) + b"]"

    results = post(link, body).json()["results"]

    assert [result["status"] for result in results] == ["accepted", "rejected", "rejected", "accepted"]
    assert [result["code"] for result in results] == [None, "invalid", "too_large", None]


@pytest.mark.parametrize(
    ("ends", "status", "told"),
    [
        ((b"[", b""), 400, "array of objects"),
        ((b"[", b",]"), 400, "array of objects"),
        ((b"[", b",1]"), 400, "array of objects"),
        ((b"[", b"]]"), 400, "array of objects"),
        ((b"[}[", b"]"), 400, "array of objects"),
        ((b'[{"a":"\\"', b"]"), 400, "array of objects"),
        ((b'[{"a":tru},', b"]"), 400, "message 1 of the batch: not valid JSON"),
        ((b"[" + b"{}," * 1000, b"]"), 413, "at most 1000 messages"),
    ],
)
def test_a_long_array_that_is_none_is_refused(link: Link, ends: tuple[bytes, bytes], status: int, told: str) -> None:
    answer = post(link, ends[0] + message(link, LONG) + ends[1])

    assert answer.status_code == status
    assert told in answer.json()["detail"]


def test_long_lines_of_a_stream_are_answered_one_by_one(link: Link) -> None:
    lines = [message(link, LONG), message(link, b""), message(link, b"1.5," * MIB), b"{" + LONG, message(link, b"")]

    answer = post(link, b"\n".join(lines), "application/x-ndjson").json()

    assert (answer["accepted"], answer["rejected"]) == (3, 2)
    assert [(result["index"], result["code"]) for result in answer["results"]] == [(2, "too_large"), (3, "malformed")]


def test_text_that_is_escaped_may_be_longer_than_it_is(link: Link) -> None:
    text = "é" * (MIB // 2 - 10)
    body = message(link, b'"' + text.encode("ascii", "backslashreplace").replace(b"\\xe9", b"\\u00e9") + b'",')
    body = body.replace(b",1]}", b"]}")

    assert len(body) > 2.9 * MIB
    assert post(link, body).status_code == 202
